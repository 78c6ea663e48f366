"""The command `flamingo`. Nothing but the standard library is imported until a verb has real work to do."""
