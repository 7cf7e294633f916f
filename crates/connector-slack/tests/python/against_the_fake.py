"""Slack's own Python client against the fake of Slack. Usage: against_the_fake.py BASE_URL BOT_TOKEN LIMITED_BASE_URL

Prints one line for each thing that works; the first that does not ends it."""

import sys

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

base, token, limited = sys.argv[1:4]
client = WebClient(token=token, base_url=base, timeout=10)

assert client.auth_test()["user_id"] == "U0BOT"
print("auth.test")

sent = [client.chat_postMessage(channel="C0OPS", text=f"message {n}")["ts"] for n in range(7)]
reply = client.chat_postMessage(channel="C0OPS", text="in the thread", thread_ts=sent[0])
assert reply["message"]["thread_ts"] == sent[0]
print("chat.postMessage")

seen, pages = [], 0
for page in client.conversations_history(channel="C0OPS", limit=2):
    pages += 1
    seen += [message["ts"] for message in page["messages"]]
assert set(sent) <= set(seen) and reply["ts"] not in seen and seen == sorted(seen, reverse=True), seen
assert pages >= 4, pages
thread = client.conversations_replies(channel="C0OPS", ts=sent[0])["messages"]
assert [message["ts"] for message in thread] == [sent[0], reply["ts"]] and thread[0]["reply_count"] == 1
print(f"conversations.history in {pages} pages, conversations.replies")

client.reactions_add(channel="C0OPS", timestamp=sent[0], name="eyes")
message = client.reactions_get(channel="C0OPS", timestamp=sent[0])["message"]
assert message["reactions"] == [{"name": "eyes", "users": ["U0BOT"], "count": 1}], message
print("reactions.add")

uploaded = client.files_upload_v2(channel="C0OPS", filename="report.csv", content="a,b\n1,2\n", title="Report", initial_comment="here")
info = client.files_info(file=uploaded["file"]["id"])["file"]
assert (info["title"], info["size"]) == ("Report", 8) and "C0OPS" in info["shares"]["public"], info
print("files_upload_v2")

names = [channel["name"] for page in client.conversations_list(limit=1, exclude_archived=True) for channel in page["channels"]]
assert names == ["general", "ops", "random"], names
print("conversations.list behind empty pages")

errors = [
    (lambda: client.chat_postMessage(channel="C0NONE", text="x"), "channel_not_found"),
    (lambda: client.reactions_add(channel="C0OPS", timestamp=sent[0], name="eyes"), "already_reacted"),
    (lambda: client.conversations_history(channel="C0RANDOM"), "not_in_channel"),
    (lambda: client.search_messages(query="x"), "not_allowed_token_type"),
    (lambda: client.api_call("no.such.method"), "unknown_method"),
    (lambda: WebClient(token="nobody", base_url=base).auth_test(), "invalid_auth"),
]
for call, code in errors:
    try:
        call()
        raise AssertionError(f"{code} was expected")
    except SlackApiError as error:
        assert error.response["error"] == code and error.response.status_code == 200, error.response
print(f"SlackApiError with {len(errors)} codes")

fast = WebClient(token=token, base_url=limited, timeout=10)
fast.chat_postMessage(channel="C0OPS", text="one")
try:
    fast.chat_postMessage(channel="C0OPS", text="two")
    raise AssertionError("429 was expected")
except SlackApiError as error:
    assert error.response.status_code == 429 and error.response["error"] == "ratelimited", error.response
    assert error.response.headers["Retry-After"] == "1", error.response.headers
patient = WebClient(token=token, base_url=limited, timeout=10)
patient.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=3))
ts = [patient.chat_postMessage(channel="C0OPS", text=f"patient {n}")["ts"] for n in range(2)]
assert len(set(ts)) == 2
print("429 and the rate-limit handler")
