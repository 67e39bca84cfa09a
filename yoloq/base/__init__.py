"""What everything stands on: options, errors, files, messages, the machine."""
