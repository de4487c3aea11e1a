"""Fine-tuning of detectors with fixed classes, by transformers' Trainer. It needs PyTorch; see
`boxdrop.training` for what starts it."""
