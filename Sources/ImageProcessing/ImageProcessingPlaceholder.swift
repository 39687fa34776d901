// Bytes of an image to normalised patches.
