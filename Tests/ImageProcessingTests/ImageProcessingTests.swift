// Tests of ImageProcessing.
