"""Healthy programs on texts and series: recurrent, convolutional and attention models."""

import keras
import numpy as np
from keras import Sequential, layers, ops
from keras.layers import (
    GRU,
    LSTM,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    LayerNormalization,
    MultiHeadAttention,
    SimpleRNN,
    TimeDistributed,
)
from keras.optimizers import Adam, RMSprop

from diagnosis_cases.foreign import compiled, healthy_into
from diagnosis_cases.foreign_data import (
    forecasts,
    images,
    made,
    next_tokens,
    tags,
    tokens,
    waves,
)
from diagnosis_cases.foreign_tables import OneCycle

CASES = []
healthy = healthy_into(CASES)
SPARSE = "sparse_categorical_crossentropy"
REVIEWS = made(tokens, targets="bit")
SHORT = made(tokens, targets="bit", length=8)


@healthy("LSTM", "IMDB: Embedding and LSTM, batch 32", SHORT)
def imdb_lstm():
    model = Sequential([Input((8,)), Embedding(200, 32), LSTM(32)])
    model.add(Dense(1, activation="sigmoid"))
    return compiled(model, Adam(5e-3), "binary_crossentropy", metrics=["accuracy"])


@healthy("LSTM", "masked and bidirectional, dropout, batch 32", SHORT)
def bidirectional_lstm():
    model = Sequential([Input((8,)), Embedding(200, 16, mask_zero=True), Bidirectional(LSTM(16))])
    model.add(Dropout(0.5))
    model.add(Dense(1))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return compiled(model, Adam(1e-2), loss)


@healthy("LSTM", "forecast of a series in 0..1, batch 32", forecasts)
def lstm_forecast():
    model = Sequential([Input((10, 1)), LSTM(50), Dense(1)])
    return compiled(model, "adam", "mean_squared_error")


@healthy("LSTM", "recurrent dropout 0.2, batch 16", made(waves, length=8), batch=16)
def recurrent_dropout():
    model = Sequential([Input((8, 2)), LSTM(32, dropout=0.2, recurrent_dropout=0.2)])
    model.add(Dense(3, activation="softmax"))
    return compiled(model, Adam(1e-2), SPARSE)


@healthy("GRU", "stack of two with a forecast, batch 64", made(forecasts, length=8), batch=64)
def gru_stack():
    model = Sequential([Input((8, 1)), GRU(24, return_sequences=True), GRU(24), Dense(1)])
    return compiled(model, Adam(3e-3), "mae")


@healthy("RNN", "SimpleRNN with RMSprop, batch 32", made(waves, length=10))
def simple_rnn():
    model = Sequential([Input((10, 2)), SimpleRNN(32), Dense(3, activation="softmax")])
    return compiled(model, RMSprop(3e-3), SPARSE)


@healthy("RNN", "GRU with RMSprop, one cycle to 0.01, batch 32", made(waves, length=8))
def gru_one_cycle():
    model = Sequential([Input((8, 2)), GRU(24), Dense(3, activation="softmax")])
    return compiled(model, RMSprop(OneCycle(1e-2, 104), clipnorm=1.0), SPARSE)


@healthy("RNN", "characters: Embedding and GRU with logits, batch 32", made(next_tokens, length=8))
def character_rnn():
    model = Sequential([Input((8,)), Embedding(32, 32), GRU(48, return_sequences=True), Dense(32)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(model, Adam(1e-2), loss)


@healthy(
    "TimeDistributed", "tagger: LSTM with a class for each word, batch 32", made(tags, length=8)
)
def tagger():
    model = Sequential([Input((8,)), Embedding(60, 32), LSTM(32, return_sequences=True)])
    model.add(TimeDistributed(Dense(5, activation="softmax")))
    return compiled(model, Adam(5e-3), SPARSE)


def videos(rng, rows):
    x, y = images(rng, rows, classes=4)
    return np.stack([x, np.roll(x, 1, 1), np.roll(x, 2, 1)], 1), y


@healthy("TimeDistributed", "CNN of each frame, then GRU, batch 16", videos, batch=16)
def video_classifier():
    frame = Sequential(
        [
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu"),
            Flatten(),
        ]
    )
    model = Sequential([Input((3, 12, 12, 1)), TimeDistributed(frame), GRU(16)])
    model.add(Dense(4, activation="softmax"))
    return compiled(model, Adam(3e-3), SPARSE)


@healthy("Conv1D", "text: Embedding, Conv1D and global maximum, batch 32", REVIEWS)
def text_cnn():
    inputs = Input((16,), dtype="int64")
    x = Dropout(0.5)(Embedding(200, 32)(inputs))
    x = Conv1D(64, 5, padding="valid", activation="relu")(x)
    x = GlobalMaxPooling1D()(x)
    x = Dense(64, activation="relu")(x)
    outputs = Dense(1, activation="sigmoid", name="predictions")(Dropout(0.5)(x))
    return compiled(keras.Model(inputs, outputs), Adam(3e-3), "binary_crossentropy")


@healthy("Conv1D", "series: three blocks with batch norm, batch 32", made(waves, length=32))
def series_cnn():
    inputs = x = Input((32, 2))
    for _ in range(3):
        x = Conv1D(filters=32, kernel_size=3, padding="same")(x)
        x = layers.ReLU()(BatchNormalization()(x))
    outputs = Dense(3, activation="softmax")(GlobalAveragePooling1D()(x))
    return compiled(keras.Model(inputs, outputs), "adam", SPARSE)


@healthy("Conv1D", "WaveNet: gated, dilated and causal, batch 32", made(waves, length=32))
def wavenet():
    inputs = Input((32, 2))
    x = Conv1D(16, 1)(inputs)
    for rate in (1, 2, 4):
        gate = Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="sigmoid")(x)
        value = Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="tanh")(x)
        x = layers.add([x, Conv1D(16, 1)(layers.multiply([gate, value]))])
    x = GlobalAveragePooling1D()(layers.ReLU()(x))
    model = keras.Model(inputs, Dense(3, activation="softmax")(x))
    return compiled(model, Adam(5e-3), SPARSE)


@healthy("embedding", "bag of words with a mean, batch 256", REVIEWS, batch=256)
def bag_of_words():
    model = Sequential([Input((16,)), Embedding(200, 16), GlobalAveragePooling1D()])
    model.add(Dense(16, activation="relu"))
    model.add(Dense(1, activation="sigmoid"))
    return compiled(model, Adam(1e-2), "binary_crossentropy")


def attention_classifier(length, width, heads, dropout, rate, vocabulary=200):
    """Return a classifier with one block of attention and no normalization."""
    inputs = Input((length,), dtype="int32")
    x = Embedding(vocabulary, width)(inputs)
    x = MultiHeadAttention(heads, width, dropout=dropout)(x, x)
    x = GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, Dense(2, activation="softmax")(x))
    return compiled(model, Adam(rate), SPARSE)


@healthy("attention", "length 8, dropout 0.1, batch 256", made(tokens, length=8), batch=256)
def attention_8():
    return attention_classifier(8, 16, 2, 0.1, 1e-2)


@healthy("attention", "length 24, no dropout, batch 32", made(tokens, length=24))
def attention_24():
    return attention_classifier(24, 32, 2, 0.0, 5e-3)


@healthy("attention", "length 96, no dropout, batch 16", made(tokens, length=96), batch=16)
def attention_96():
    return attention_classifier(96, 32, 2, 0.0, 5e-3)


@healthy("attention", "length 256, no dropout, batch 8", made(tokens, length=256), batch=8)
def attention_256():
    return attention_classifier(256, 16, 1, 0.0, 5e-3)


@healthy("attention", "length 128, dropout 0.2, batch 8", made(tokens, length=128), batch=8)
def attention_128():
    return attention_classifier(128, 16, 2, 0.2, 5e-3)


class Bahdanau(layers.Layer):
    """Attention written by hand: a weighted mean over time."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.W, self.V = Dense(units, activation="tanh"), Dense(1)

    def call(self, features):
        weights = ops.softmax(self.V(self.W(features)), axis=1)
        return ops.sum(weights * features, axis=1)


@healthy("attention", "by hand over GRU outputs, batch 32", made(waves, length=8))
def bahdanau():
    inputs = Input((8, 2))
    x = Bahdanau(16)(GRU(24, return_sequences=True)(inputs))
    model = keras.Model(inputs, Dense(3, activation="softmax")(x))
    return compiled(model, Adam(1e-2), SPARSE)


@healthy("seq2seq", "LSTM encoder and decoder, batch 64", made(next_tokens, length=6), batch=64)
def sequence_to_sequence():
    inputs = Input((6,))
    x = Embedding(32, 32)(inputs)
    _, *state = LSTM(32, return_state=True)(x)
    decoded = LSTM(32, return_sequences=True)(x, initial_state=state)
    outputs = Dense(32, activation="softmax")(decoded)
    return compiled(keras.Model(inputs, outputs), Adam(1e-2), SPARSE)


@healthy(
    "transformer",
    "series: attention and Conv1D, dropout 0.25, batch 64",
    made(waves, length=32),
    batch=64,
)
def series_transformer():
    inputs = Input((32, 2))
    x = Conv1D(16, 3, padding="same")(inputs)
    y = MultiHeadAttention(2, 16, dropout=0.25)(x, x)
    x = LayerNormalization(epsilon=1e-6)(Dropout(0.25)(y)) + x
    y = Dropout(0.25)(Conv1D(8, 1, activation="relu")(x))
    x = LayerNormalization(epsilon=1e-6)(Conv1D(16, 1)(y)) + x
    x = GlobalAveragePooling1D(data_format="channels_last")(Dense(32, activation="relu")(x))
    x = Dropout(0.2)(Dense(64, activation="relu")(x))
    model = keras.Model(inputs, Dense(3, activation="softmax")(x))
    return compiled(model, Adam(5e-3), SPARSE)
