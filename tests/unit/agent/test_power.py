"""Whether the agent's account may switch the machine off: logind's own words, recorded.

Neither logind nor polkit runs where the tests do: a bus plays the one, and a browser reads the
other's rule as the JavaScript it is.
"""

import os
from pathlib import Path

import pytest
from jeepney import HeaderFields, new_error, new_method_return
from playwright.sync_api import sync_playwright
from tests.parts import PARTS
from tests.unit.agent.test_linux_dbus import Service, address  # noqa: F401  (a fixture)
from tests.web.test_console import FLAGS

from ketang_agent import power
from ketang_agent.platforms.linux_dbus import Bus
from ketang_agent.power import Power, as_owner_of, can_power_off, read

RULE = Path(__file__).parents[3] / "deploy" / "polkit" / "50-ketang.rules"
SAID = {
    "yes": Power.YES,
    "no": Power.NO,
    "challenge": Power.NO,
    "na": Power.NO_LOGIND,
    "inhibitor-blocked": Power.BLOCKED,
    "challenge-inhibitor-blocked": Power.NO,
}
"""What org.freedesktop.login1(5) lists for CanPowerOff."""


class Login(Service):
    """logind, as far as it is asked."""

    def __init__(self, where, says):
        self.says, self.asked = says, []
        super().__init__(where, ["org.freedesktop.login1"], {})

    def _answer(self, call):
        self.asked.append(call.header.fields[HeaderFields.member])
        if self.says == "refused":
            return new_error(call, "org.freedesktop.DBus.Error.AccessDenied")
        return new_method_return(call, "s", (self.says,))


@pytest.mark.dbus
@pytest.mark.parametrize(
    ("says", "found"), [("yes", Power.YES), ("challenge", Power.NO), ("refused", Power.UNKNOWN)]
)
def test_logind_is_asked_and_nothing_is_switched_off(address, says, found):  # noqa: F811
    logind = Login(address, says)
    try:
        assert can_power_off(Bus(address)) is found
    finally:
        logind.stop()
    assert logind.asked == ["CanPowerOff"]


@pytest.mark.parametrize(("said", "found"), SAID.items())
def test_each_of_loginds_words_is_understood(said, found):
    assert read(said) is found


def test_where_there_is_no_bus_or_no_logind_it_cannot(tmp_path):
    assert can_power_off(Bus(f"unix:path={tmp_path / 'nowhere'}")) is Power.NO_LOGIND


def test_it_is_asked_as_the_account_that_owns_the_agents_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(power, "can_power_off", lambda _: Power.YES)
    assert as_owner_of(tmp_path) is Power.YES
    assert as_owner_of(tmp_path / "nothing") is Power.UNKNOWN
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert as_owner_of(tmp_path) is Power.UNKNOWN, "a third person cannot be it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be another account")
def test_root_asks_as_the_agents_account_in_a_child(tmp_path, monkeypatch):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")
    os.chown(tmp_path, 65534, 65534)
    assert as_owner_of(tmp_path) in {Power.NO_LOGIND, Power.UNKNOWN}


ASKED = """(text) => {
  const rules = [];
  const polkit = { Result: { YES: "yes", NOT_HANDLED: null }, addRule: (one) => rules.push(one) };
  new Function("polkit", text)(polkit);
  const login1 = "org.freedesktop.login1.";
  const actions = ["power-off", "power-off-multiple-sessions", "power-off-ignore-inhibit", "reboot",
    "suspend", "halt", "set-wall-message", "manage"].map((one) => login1 + one);
  actions.push("org.freedesktop.systemd1.manage-units", "org.freedesktop.policykit.exec");
  const found = [];
  for (const user of ["ketang", "teacher", "root", "ketang2", ""])
    for (const id of actions)
      for (const rule of rules)
        if (rule({ id }, { user }) === "yes") found.push([user, id.replace(login1, "")]);
  return found;
}"""


def test_the_rule_lets_the_agents_account_power_off_and_nobody_anything_else():
    chromium = next(one for one in PARTS if one.name == "chromium").find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        found = browser.new_page().evaluate(ASKED, RULE.read_text("utf-8"))
        browser.close()
    assert found == [["ketang", "power-off"], ["ketang", "power-off-multiple-sessions"]]


def test_the_service_runs_under_the_account_that_the_rule_names():
    unit = (RULE.parents[1] / "systemd" / "ketang-agent.service").read_text("utf-8")
    assert "\nUser=ketang\n" in unit
