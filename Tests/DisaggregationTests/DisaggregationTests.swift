// Tests of Disaggregation.
