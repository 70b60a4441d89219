"""Writers of records and findings to TensorBoard, JSON lines and CSV files."""
