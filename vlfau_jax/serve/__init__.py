"""A local web page and a JSON endpoint for one exported model."""
