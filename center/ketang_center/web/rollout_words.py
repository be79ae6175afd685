"""What the centre and devices say of rollouts, in the page's language and for this visitor's eyes.

The office refuses in one English line, for the command line too; here each is known by its form.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from ketang_center.registry.tree import Tree
from ketang_center.rollouts.plan import COHORT_MS, Rules
from ketang_center.web import filing_words
from ketang_center.web.text import Words
from ketang_contract.errors import BadInput

MOST_DIGITS = 15
MOST_WHY = 200
MOST_GROUPS = 8
_MOST_DEVICES, _MOST_A_MINUTE = 1_000_000, 100_000
_SPLIT = re.compile(r"[\s,;，、；]+")


class _Form(NamedTuple):
    form: re.Pattern[str]
    zh: str


def _form(form: str, zh: str) -> _Form:
    return _Form(re.compile(form, re.DOTALL), zh)


_REFUSALS = (
    _form(r"a release file has at most (\d+) bytes", "发布文件不得超过 {0} 字节"),
    _form(
        r"not a release file of a schema this version knows",
        "该文件的格式版本本中心不认识，请先升级中心",
    ),
    _form(r"not a release file: .*", "不是发布文件；请上传 ketang config sign 生成的文件"),
    _form(r"not a (?:layer|placement) that can be read: .*", "签名文件无法读取，请重新签名"),
    _form(
        r"(.+): widens (.+): two holders have to sign, it has (.*)",
        "{0}：放宽了 {1}，须由两名密钥持有人签名；现有签名：{2}",
    ),
    _form(r"(.+): signed by keys with no authority there", "{0}：签名所用密钥无权管理该单位"),
    _form(
        r"(.+): not signed by a key of the trust document in force",
        "{0}：没有现行信任文件中任何密钥的签名",
    ),
    _form(
        r"(.+): key epoch (\d+), in force is (\d+): sign it anew",
        "{0}：密钥代次为 {1}，现行为 {2}，请重新签名",
    ),
    _form(r"(.+): has expired: sign it anew", "{0}：已过期，请重新签名"),
    _form(
        r"(.+): was signed in days to come: check both clocks, sign it anew",
        "{0}：签发时间在将来；请核对两边的时钟后重新签名",
    ),
    _form(
        r"(.+): it, with these signatures, is here already",
        "{0}：这份发布连同这些签名已在中心",
    ),
    _form(r"(.+): (?:a|another) release of this name is here already", "{0}：同名发布已在中心"),
    _form(
        r"(.+): version (\d+) of (.+), but (\d+) is here already: sign it with a higher one",
        "{0}：{2} 的版本号 {1} 太低，中心已有 {3}，请用更高的版本号重新签名",
    ),
    _form(r"(.+): is an undo itself, not a release", "{0}：这是撤回文件，不是发布"),
    _form(
        r"(.+): the undo that came along does not take it back",
        "{0}：随附的撤回与它不对应，请重新签名",
    ),
    _form(r"(.+): only the region may say (.+)", "{0}：{1} 只能由全区规定"),
    _form(r"(.+): there is no (\w+) (\S+) here", "{0}：本中心没有代码为 {2} 的单位"),
    _form(r"(.+): no device (\S+) stands anywhere here", "{0}：登记中没有安放着的设备 {1}"),
    *(_form(*one) for one in filing_words.REFUSALS),
    _form(
        r"(.+): rollout (\d+) of (.+) is \w+: let it finish, cancel it, or take it back",
        "{0}：第 {1} 号下发（{2}）还未结束；请等它完成，或先取消、撤回它",
    ),
    _form(r"(.+): (\d+) devices are trying (.+) now", "{0}：有 {1} 台设备正在试用 {2}，请稍候"),
    _form(r"(.+): was rolled out already, as number (\d+)", "{0}：已下发过，编号 {1}"),
    _form(r"(.+): version (\d+) of (.+) was sent already", "{0}：{2} 已下发过更新的版本 {1}"),
    _form(
        r"(.+): nobody below (\S+) has a signed placement: export, sign and push placements first",
        "{0}：{1} 下没有设备有签好的位置证明；请先导出名单、签名、上传",
    ),
    _form(r"rollout \d+: has to be approved by somebody else", "须由另一人批准"),
    _form(
        r"rollout \d+: is \w+ and cannot be .*",
        "它的状态已经变了，不能再这样做；请看当前状态",
    ),
    _form(r"rollout \d+: is not the newest release of .*", "它之后还有更新的下发，请撤回最新的"),
    _form(
        r"(.+): a placement as new as this one is held already",
        "{0}：中心已有同样新或更新的位置证明",
    ),
    _form(
        r"(.+): the register has it elsewhere; export and sign again",
        "{0}：登记的位置与它不同，请重新导出并签名",
    ),
    _form(
        r"(.+): its new place widens (.+): two have to sign", "{0}：新位置放宽了 {1}，须两人签名"
    ),
    _form(r"this centre holds no trust document", "本中心没有信任文件，不能判断签名"),
)


def refusal(why: BadInput | str, lang: str) -> str:
    """Say in one line why the office refused. One that no form knows stays in English."""
    line = str(why).removeprefix(": ")
    if lang != "zh":
        return line
    for one in _REFUSALS:
        found = one.form.fullmatch(line)
        if found:
            return one.zh.format(*found.groups(""))
    return line


def reason(code: str, t: Words) -> str:
    """Say what a device gave as its reason; a code that no word is known for stays itself."""
    if not code:
        return ""
    found = t.by_key.get(f"config_reason.{code}")
    if found is None and code.startswith("agent_"):
        return f"{t('config_reason.agent_release')} ({code.removeprefix('agent_')})"
    return code if found is None else found


_STOPS = (
    ("group", re.compile(r"group (\d+): (\d+) of (\d+) failed")),
    ("kind", re.compile(r"kind (\w+): (\d+) of (\d+) failed")),
    ("school", re.compile(r"school (\S*): (\d+) of (\d+) failed")),
    ("cohort", re.compile(r"cohort (\d+): (\d+) of (\d+) failed")),
    ("few", re.compile(r"group (\d+): (\d+) of (\d+) committed")),
    ("failures", re.compile(r"(\d+) failures")),
    ("silent", re.compile(r"(\d+) tell nothing")),
    ("expired", re.compile(r"the release has expired()")),
    ("restored", re.compile(r"restored from a backup of (.+): look, then resume")),
    ("broken", re.compile(r"the centre cannot go on: (.+)", re.DOTALL)),
)

_FOR_ALL = {"expired", "restored", "broken"}


def stop(text: str, t: Words, tree: Tree, own: str) -> str:
    """Say why a rollout stands still. Of failures elsewhere it is told only that there are some.

    Args:
        text: the plan's reason, or a person's.
        t: the words.
        tree: the organisation.
        own: the unit below which all may be told; empty: everything may.
    """
    for name, form in _STOPS:
        found = form.fullmatch(text)
        if found is None:
            continue
        what, *counts = found.groups()
        told = name in _FOR_ALL or (name == "school" and tree.holds(own, what))
        if own and not told:
            return t("rollout_stop.elsewhere")
        if name == "kind":
            what = t.by_key.get(f"kind.{what}", what)
        elif name == "school" and what in tree:
            what = tree[what].name(t.lang)
        elif name == "cohort":
            minutes = COHORT_MS // 60_000
            what = f"{(int(what) - 1) * minutes}–{int(what) * minutes}"
        n, of = counts or (what, "")
        return t(f"rollout_stop.{name}", what=what, n=n, of=of)
    return text


def number_of(text: str) -> int:
    """Read a rollout's number from a path; 0, which none has, where it is no number."""
    right = text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS
    return int(text) if right else 0


def why_of(text: str) -> str:
    """Return what a person typed as a reason: short, on one line."""
    return "".join(one if one.isprintable() else " " for one in text.strip())[:MOST_WHY]


def rules_of(groups: str, percents: str, per_minute: str) -> Rules | None:
    """Read the rules a person typed; None where they are none.

    Args:
        groups: sizes of the first groups, as ``20, 200``; may be empty.
        percents: growing percentages of the rest, as ``10, 25, 50, 100``.
        per_minute: how many devices a minute.
    """
    sizes = _numbers(groups, _MOST_DEVICES)
    shares = _numbers(percents, 100)
    rate = _numbers(per_minute, _MOST_A_MINUTE)
    if sizes is None or shares is None or rate is None or len(rate) != 1:
        return None
    if any(after <= before for before, after in pairwise(shares)):
        return None
    return Rules(groups=sizes, percents=shares, per_minute=rate[0])


def _numbers(text: str, most: int) -> tuple[int, ...] | None:
    parts = [one for one in _SPLIT.split(text.replace("%", " ")) if one]
    if len(parts) > MOST_GROUPS or not all(
        one.isascii() and one.isdecimal() and len(one) <= MOST_DIGITS for one in parts
    ):
        return None
    found = tuple(map(int, parts))
    return found if all(0 < one <= most for one in found) else None
