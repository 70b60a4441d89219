"""The tab of `keras-winit` in TensorBoard; knows nothing of Keras and `keras_winit`."""
