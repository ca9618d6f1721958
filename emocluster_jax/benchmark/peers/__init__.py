"""The peers, which use their libraries' public interfaces."""
