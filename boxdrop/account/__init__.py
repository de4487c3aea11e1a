"""Long work in the user's AWS account: training, export and teaching as jobs of AWS Batch."""
