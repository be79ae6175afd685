"""What the register of filings says against a release, in the page's language.

It is said in one English line, behind the release's name, for the command line too: each is known
here by its form, as ``rollout_words`` knows the office's.
"""

_MODEL = r"(.+): model (\S+) (\S+) \(sha256 (\w+)…\): "
_NAMED = "{0}：模型 {1} {2}（SHA-256 {3}…）"
REFUSALS = (
    (
        _MODEL + "no filing in force; file it: ketang filing submit",
        _NAMED + "没有有效备案；请先在“备案与授权”页提交",
    ),
    (
        _MODEL + "its filing has ended; renew it: ketang filing submit",
        _NAMED + "的备案已到期、已撤回或尚未生效；请在“备案与授权”页重新提交",
    ),
    (
        _MODEL + "filed with another file's hash",
        _NAMED + "：备案的是另一个文件；请核对模型文件，或为这个文件另行备案",
    ),
)
"""Form of the whole line, and what to say."""
