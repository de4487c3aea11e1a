"""The CDK app: boxdrop in an AWS account."""
