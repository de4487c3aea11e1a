"""`boxdrop annotate`: a folder or an S3 prefix in, predictions and a page to look at out."""
