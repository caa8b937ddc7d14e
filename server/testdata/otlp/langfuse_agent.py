"""An agent with Langfuse's SDK. LANGFUSE_HOST is all that is changed; the key is LANGFUSE_SECRET_KEY."""

from langfuse import get_client, observe, propagate_attributes

langfuse = get_client()


@observe(as_type="tool")
def look_up(order: str) -> str:
    return "in the box, unused"


@observe(as_type="generation")
def ask(question: str) -> str:
    langfuse.update_current_generation(model="gpt-5", usage_details={"input": 86, "cache_read_input_tokens": 20,
                                                                     "output": 300, "total": 406})
    return "It may."


@observe(as_type="agent", name="shop")
def agent() -> str:
    look_up("4711")
    return ask("May a pump be returned?")


with propagate_attributes(session_id="session-7", user_id="ann"):
    agent()
langfuse.flush()
