"""Healthy transformers, most of which start from N(0, 0.02²)."""

import keras
from keras import layers, ops
from keras.initializers import RandomNormal, TruncatedNormal
from keras.layers import Dense, Dropout, Embedding, Input, LayerNormalization, MultiHeadAttention
from keras.optimizers import Adam, AdamW

from diagnosis_cases.foreign import compiled, healthy_into
from diagnosis_cases.foreign_data import images, made, next_tokens, tokens

CASES = []
healthy = healthy_into(CASES)
SPARSE = "sparse_categorical_crossentropy"
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class TransformerBlock(layers.Layer):
    """The block of the Keras example on text classification."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([Dense(ff_dim, activation="relu"), Dense(embed_dim)])
        self.layernorm1 = LayerNormalization(epsilon=1e-6)
        self.layernorm2 = LayerNormalization(epsilon=1e-6)
        self.dropout1 = Dropout(rate)
        self.dropout2 = Dropout(rate)

    def call(self, inputs, training=False):
        attn_output = self.dropout1(self.att(inputs, inputs), training=training)
        out1 = self.layernorm1(inputs + attn_output)
        ffn_output = self.dropout2(self.ffn(out1), training=training)
        return self.layernorm2(out1 + ffn_output)


class TokenAndPositionEmbedding(layers.Layer):
    """The embedding of the same example."""

    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        return self.token_emb(x) + self.pos_emb(ops.arange(ops.shape(x)[-1]))


@healthy("transformer", "Keras example on reviews, length 40, batch 32", made(tokens, length=40))
def text_classification():
    inputs = Input((40,))
    x = TokenAndPositionEmbedding(40, 200, 32)(inputs)
    x = TransformerBlock(32, 2, 32)(x)
    x = Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    x = Dropout(0.1)(Dense(20, activation="relu")(x))
    outputs = Dense(2, activation="softmax")(x)
    return compiled(keras.Model(inputs, outputs), Adam(3e-3), SPARSE)


class PositionEmbedding(layers.Layer):
    """Adds a learned vector for each position."""

    def __init__(self, initializer="uniform"):
        super().__init__()
        self.initializer = keras.initializers.get(initializer)

    def build(self, shape):
        self.positions = self.add_weight(shape=shape[1:], initializer=self.initializer)

    def call(self, x):
        return x + self.positions


def small_normal():
    return RandomNormal(stddev=0.02)


@healthy("transformer", "GPT: pre-normalized, causal, N(0, 0.02²), batch 32", next_tokens)
def gpt():
    inputs = Input((16,), dtype="int32")
    x = Embedding(32, 32, embeddings_initializer=small_normal())(inputs)
    x = PositionEmbedding(small_normal())(x)
    for _ in range(2):
        y = LayerNormalization()(x)
        x = x + MultiHeadAttention(2, 16, kernel_initializer=small_normal())(
            y, y, use_causal_mask=True
        )
        y = Dense(128, activation="gelu", kernel_initializer=small_normal())(
            LayerNormalization()(x)
        )
        x = x + Dense(32, kernel_initializer=small_normal())(y)
    logits = Dense(32, use_bias=False, kernel_initializer=small_normal())(LayerNormalization()(x))
    return compiled(keras.Model(inputs, logits), AdamW(5e-3), LOGITS)


@healthy("transformer", "GPT with dropout 0.1 and tied embeddings, batch 32", next_tokens)
def tied_gpt():
    inputs = Input((16,), dtype="int32")
    embedding = layers.ReversibleEmbedding(32, 32, embeddings_initializer=small_normal())
    x = PositionEmbedding(small_normal())(embedding(inputs))
    x = Dropout(0.1)(x)
    y = LayerNormalization()(x)
    attend = MultiHeadAttention(2, 16, dropout=0.1, kernel_initializer=small_normal())
    x = x + attend(y, y, use_causal_mask=True)
    y = Dense(64, activation="gelu", kernel_initializer=small_normal())(LayerNormalization()(x))
    x = x + Dropout(0.1)(Dense(32, kernel_initializer=small_normal())(y))
    logits = embedding(LayerNormalization()(x), reverse=True)
    return compiled(keras.Model(inputs, logits), AdamW(5e-3), LOGITS)


@healthy(
    "transformer",
    "BERT: post-normalized, truncated normal 0.02, batch 16",
    made(tokens, length=20),
    batch=16,
)
def bert():
    def dense(units, activation=None):
        return Dense(units, activation, kernel_initializer=TruncatedNormal(stddev=0.02))

    inputs = Input((20,), dtype="int32")
    x = Embedding(200, 32, embeddings_initializer=TruncatedNormal(stddev=0.02))(inputs)
    x = PositionEmbedding(TruncatedNormal(stddev=0.02))(x)
    x = Dropout(0.1)(LayerNormalization(epsilon=1e-12)(x))
    for _ in range(2):
        init = TruncatedNormal(stddev=0.02)
        attention = MultiHeadAttention(2, 16, dropout=0.1, kernel_initializer=init)(x, x)
        x = LayerNormalization(epsilon=1e-12)(layers.add([x, Dropout(0.1)(attention)]))
        y = dense(32)(dense(128, "gelu")(x))
        x = LayerNormalization(epsilon=1e-12)(layers.add([x, Dropout(0.1)(y)]))
    pooled = dense(32, "tanh")(x[:, 0])
    model = keras.Model(inputs, dense(2, "softmax")(Dropout(0.1)(pooled)))
    return compiled(model, Adam(2e-3), SPARSE)


@healthy("transformer", "Llama: RMS norm, grouped queries, gated SiLU, batch 32", next_tokens)
def llama():
    def dense(units, activation=None):
        return Dense(units, activation, use_bias=False, kernel_initializer=small_normal())

    inputs = Input((16,), dtype="int32")
    x = Embedding(32, 32, embeddings_initializer=small_normal())(inputs)
    for _ in range(2):
        y = layers.RMSNormalization()(x)
        attend = layers.GroupQueryAttention(
            8, 4, 2, use_bias=False, kernel_initializer=small_normal()
        )
        x = x + attend(y, y, use_causal_mask=True)
        y = layers.RMSNormalization()(x)
        x = x + dense(32)(layers.multiply([dense(64, "silu")(y), dense(64)(y)]))
    logits = dense(32)(layers.RMSNormalization()(x))
    return compiled(keras.Model(inputs, logits), AdamW(5e-3), LOGITS)


@healthy(
    "transformer",
    "encoder and decoder with cross-attention, batch 32",
    made(next_tokens, length=10),
)
def encoder_decoder():
    inputs = Input((10,), dtype="int32")
    x = PositionEmbedding()(Embedding(32, 32)(inputs))
    memory = LayerNormalization()(x + MultiHeadAttention(2, 16)(x, x))
    y = LayerNormalization()(x + MultiHeadAttention(2, 16)(x, x, use_causal_mask=True))
    y = LayerNormalization()(y + MultiHeadAttention(2, 16)(y, memory))
    y = LayerNormalization()(y + Dense(32)(Dense(64, activation="relu")(y)))
    outputs = Dense(32, activation="softmax")(Dropout(0.1)(y))
    return compiled(keras.Model(inputs, outputs), Adam(5e-3), SPARSE)


@healthy(
    "mixed precision",
    "transformer in bfloat16, batch 32",
    made(tokens, length=16),
    policy="mixed_bfloat16",
)
def bfloat16_transformer():
    inputs = Input((16,))
    x = TokenAndPositionEmbedding(16, 200, 32)(inputs)
    x = TransformerBlock(32, 2, 64)(x)
    x = layers.GlobalAveragePooling1D()(x)
    outputs = Dense(2, activation="softmax", dtype="float32")(x)
    return compiled(keras.Model(inputs, outputs), Adam(3e-3), SPARSE)


IMAGES = made(images, channels=3, scale="-1..1")


@healthy("ViT", "patches of 3 x 3, two blocks, dropout 0.1, -1..1, batch 32", IMAGES)
def vision_transformer():
    inputs = Input((12, 12, 3))
    x = layers.Reshape((16, 32))(layers.Conv2D(32, 3, strides=3)(inputs))
    x = PositionEmbedding()(x)
    for _ in range(2):
        y = LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([MultiHeadAttention(4, 8, dropout=0.1)(y, y), x])
        y = LayerNormalization(epsilon=1e-6)(x)
        y = Dropout(0.1)(Dense(32)(Dense(64, activation="gelu")(y)))
        x = layers.Add()([y, x])
    x = layers.Flatten()(LayerNormalization(epsilon=1e-6)(x))
    model = keras.Model(inputs, Dense(10)(Dropout(0.3)(x)))
    return compiled(model, AdamW(1e-3), LOGITS)
