"""Prompts: what stands around a text where a language model is asked about it; free of torch."""

from mlclf.prompts.options import PromptOptions
from mlclf.prompts.rendering import ChatFormat
from mlclf.prompts.segments import Prompt, PromptText, make_prompt
from mlclf.prompts.tokens import PromptTokens

__all__ = ["ChatFormat", "Prompt", "PromptOptions", "PromptText", "PromptTokens", "make_prompt"]
