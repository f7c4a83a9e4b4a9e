"""The service: it decides when; `astra` says what is true."""
