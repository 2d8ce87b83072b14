"""Reading of requests with the help of a language model, where the settings name one."""
