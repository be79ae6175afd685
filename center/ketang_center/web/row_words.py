"""What is wrong with a device list, in the page's language and for this visitor's eyes.

The checks name mistakes in one English line each, for the command line; here each is known by its
form. One that is not known may name what is not the visitor's, and is not shown.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

_ELSEWHERE = re.compile(
    r"(?P<serial>.*) is registered at (?P<schools>.+) too; one of them is wrong"
)


UNKNOWN = {
    "zh": "原因请联系中心维护人员用命令行查看：ketang provision register --check",
    "en": "see the command line at the centre: ketang provision register --check",
}


class _Form(NamedTuple):
    """A message's form, and what the page says in Chinese and in English; None: the same."""

    form: re.Pattern[str]
    zh: str
    en: str | None = None


def _form(form: str, zh: str, en: str | None = None) -> _Form:
    return _Form(re.compile(form, re.DOTALL), zh, en)


_FORMS = (
    _form(r"empty; fill it in", "空着，请填写"),
    _form(r"longer than (\d+) characters; shorten it", "超过 {0} 个字符，请缩短"),
    _form(
        r"holds an invisible character; type it anew",
        "含有不可见字符，请重新输入",
    ),
    _form(
        r"'(.*)' is unknown(; did you mean '(.*)'\?|;) accepted: (.*)",
        "“{0}”不是已知的设备类型；可填的名称见下方“设备类型”",
        "'{0}' is no kind of device; the names accepted are listed below",
    ),
    _form(
        r"'(.*)' is not accepted; accepted: yes 是, no 否, or nothing",
        "“{0}”不能识别；可填 是 / 否，或留空",
    ),
    _form(r"a second column for (\w+); leave one", "同一内容（{0}）有两列，请只留一列"),
    _form(
        r"no column (.*); the header has: (.*)",
        "缺少列：{0}；表头中有：{1}",
    ),
    _form(r"no rows below the header", "表头下面没有数据行"),
    _form(
        r"(.*) stands in row (\d+) already; leave one of them",
        "{0} 在第 {1} 行已经出现，请只留一行",
    ),
    _form(
        r"there is no school (.*); check the code, or add the school",
        "没有代码为 {0} 的学校，请检查学校代码",
        "there is no school {0}; check the code",
    ),
    _form(
        r"(\d+) rooms are called (.*); give an id: (.*)",
        "有 {0} 间教室都叫“{1}”，请填教室编号：{2}",
    ),
    _form(
        r"the school has no room (.*); correct it, or add rooms with --add-rooms",
        "该校没有教室“{0}”；请改正，或勾选“新建缺少的教室”后重新检查",
        "the school has no room {0}; correct it, or tick “make missing rooms” and check again",
    ),
    _form(
        r"a column that means nothing here; it was not read",
        "这一列在此没有用处，未读取",
    ),
    _form(
        r"(.*) was thrown out; if it is back, approve it when it enrols",
        "{0} 已被注销；如设备回来了，请在它申请接入时批准",
    ),
    _form(r"(.*) is in use; nothing of it was changed", "{0} 正在使用，未作任何修改"),
    _form(
        r"no agent runs on (\w+): it will not enrol, and needs no serial number",
        "这类设备（{0}）上不运行终端程序：不会申请接入，也不需要序列号",
    ),
    _form(r"empty; the device will wait for approval", "空着；该设备接入时需要人工批准"),
    _form(
        r"'(.*)' names no single machine; the device will wait for approval",
        "“{0}”不是某一台机器独有的序列号；该设备接入时需要人工批准",
    ),
    _form(
        r"(.*) is that of (.*) too; each will wait for approval",
        "{0} 与 {1} 的序列号相同；这些设备接入时都需要人工批准",
    ),
    _form(r"a formula; copy the column and paste it as values", "是公式；请复制该列并粘贴为数值"),
    _form(r"an error of the spreadsheet; enter the value", "是表格软件的错误值；请填入实际内容"),
    _form(
        r"the program made a date of it; format the column as text, enter it anew",
        "被表格软件变成了日期；请把该列设为文本格式后重新输入",
    ),
    _form(
        r"a number of more than 15 digits, whose end the program dropped;"
        r" format the column as text and enter it again",
        "超过 15 位的数字，末尾已被表格软件丢掉；请把该列设为文本格式后重新输入",
    ),
    _form(
        r"(.*) is a long number that the program shortened;"
        r" format the column as text and enter it again",
        "{0} 是被表格软件缩写的长数字；请把该列设为文本格式后重新输入",
    ),
    _form(r"larger than (\d+) MB; split it by school", "大于 {0} MB，请按学校拆分"),
    _form(r"more than (\d+) rows; split it by school", "多于 {0} 行，请按学校拆分"),
    _form(
        r"an old \.xls, or locked with a password; save it as \.xlsx without a password",
        "是旧式 .xls，或设有密码；请另存为不带密码的 .xlsx",
    ),
    _form(
        r"no text table; save it as \.xlsx or as CSV \(UTF-8\)",
        "不是表格；请另存为 .xlsx 或 CSV（UTF-8）",
    ),
    _form(
        r"no CSV: (.*); save it again from the program",
        "不是有效的 CSV（{0}）；请在表格软件中重新保存",
    ),
    _form(
        r"a damaged workbook \((\w+)\);"
        r" open it and save it again as \.xlsx, or as CSV \(UTF-8\)",
        "工作簿已损坏（{0}）；请打开后另存为 .xlsx 或 CSV（UTF-8）",
    ),
    _form(
        r"unpacks to (\d+) MB, far more than (\d+) rows need; copy the rows into a new workbook",
        "解压后有 {0} MB，远超 {1} 行所需；请把数据行复制到新的工作簿",
    ),
    _form(r"has no visible sheet", "没有可见的工作表"),
)


def in_words(what: str, lang: str, own: Collection[str] = ()) -> str:
    """Return a message as a visitor reads it. Schools that are not his own are not named."""
    elsewhere = _ELSEWHERE.fullmatch(what)
    if elsewhere:
        return _elsewhere(elsewhere["serial"], elsewhere["schools"].split(", "), lang, own)
    for one in _FORMS:
        found = one.form.fullmatch(what)
        if found:
            text = one.zh if lang == "zh" else one.en
            return what if text is None else text.format(*found.groups(""))
    return UNKNOWN["zh" if lang == "zh" else "en"]


def _elsewhere(serial: str, schools: list[str], lang: str, own: Collection[str]) -> str:
    seen = [one for one in schools if one in own]
    if lang == "zh":
        where = "、".join(seen) if seen else "其他学校"
        return f"{serial} 也登记在{where}，其中必有一处有误"
    where = ", ".join(seen) if seen else "another school"
    return f"{serial} is registered at {where} too; one of them is wrong"
