// Tests of ClusterControl.
