// Tests of Quantization.
