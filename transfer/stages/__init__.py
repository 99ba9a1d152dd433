"""The stages that judge a backbone, one file each."""
