"""Parts of batch techniques: pictures, tokens and partners in a batch."""
