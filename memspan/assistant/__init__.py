"""The assistant: reading, retrieval and answers with a language model and its memory."""
