"""TensorBoard plugin of `keras-winit`, which imports neither Keras nor `keras_winit`."""
