// Tests of ImageFetching.
