"""The data bucket: everything that boxdrop keeps there, one module per kind of object."""
