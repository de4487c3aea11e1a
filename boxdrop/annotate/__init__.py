"""`boxdrop annotate`: a folder or an S3 prefix in, predictions and a report page out."""
