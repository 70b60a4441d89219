"""Digits: their split and scale, and what a start does to the accuracy."""

import keras

from keras_winit import experiments


def test_digits_separate_a_bad_start_from_a_good_one():
    keras.utils.set_random_seed(0)
    data = experiments.digits()
    assert data.train_images.shape == (1347, 64)
    assert len(data.test_images) == 450
    assert abs(data.train_images.mean()) < 1e-5
    models = [
        experiments.digits_classifier(name) for name in ("winit>small_normal", "winit>he_normal")
    ]
    *_, (bad, good) = experiments.train_on_digits(models, data, epochs=6)
    assert bad < 0.2
    assert good > 0.85
