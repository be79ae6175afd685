"""``rotate-ca clients`` done by the very text it prints: nobody is thrown out, but the revoked."""

import re
import shlex
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager

import pytest
from tests.regions import KETANG, Region, enroll

from ketang_provisioning.broker_probe import Address, Probe
from ketang_provisioning.ca import Identity
from ketang_provisioning.certificates import load_certificate

PATIENCE_S = 60


def ketang(*words):
    done = subprocess.run(
        [*KETANG, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_the_text(line):
    """Do a printed command: only ``ketang`` and ``cp`` are ever printed."""
    words = shlex.split(line)
    if words[0] == "ketang":
        return ketang(*words[1:])
    assert words[0] == "cp"
    return shutil.copyfile(*words[1:])


class Yard:
    """A region whose broker and centre run as services do."""

    def __init__(self, folder):
        self.folder, self.region = folder, Region(folder)
        self.out = folder / "broker-out"
        self.place = self.region.folder / "broker"
        where = ("--region", self.region.folder, "--out", self.out, "--host", "127.0.0.1")
        ketang("broker", "config", "mosquitto", *where, "--port", self.region.broker_port)
        self.devices = iter(self.region.register(3))
        self.code = self.region.code()
        self.kits = 0

    @contextmanager
    def broker(self):
        log = self.out / "run.log"
        with log.open("ab") as file:
            begins = file.tell()
            process = subprocess.Popen(
                [*KETANG, "broker", "run", "--config", str(self.out)], stderr=file
            )
        try:
            self.wait(lambda: "broker.ready" in log.read_text()[begins:])
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def wait(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (self.out / "run.log").read_text()
            time.sleep(0.1)

    def renewed(self):
        return (self.out / "run.log").read_text().count("broker.revocations_renewed")

    def enroll(self):
        self.kits += 1
        asset = next(self.devices)
        kit = self.region.kit(self.folder / f"kit-{self.kits}", self.code)
        folder = self.region.device_folder(self.folder / asset.device)
        made = enroll(folder, "--kit", str(kit), "--serial", asset.serial)
        assert made.returncode == 0, made.stderr
        return asset.device, folder

    def comes_in(self, device):
        name, folder = device
        pair = folder / "identity.pem"
        identity = Identity(self.region.center_folder / "servers-ca.pem", pair, pair)
        address = Address("127.0.0.1", self.region.broker_port)
        with Probe(address, identity.ca_file, identity, name) as probe:
            probe.listen(0.3)
            return probe.entered and probe.alive

    def revoke(self, device):
        settings = self.region.center_folder / "center-test.toml"
        ketang("provision", "revoke", device[0], "--why", "stolen", "--settings", settings)

    def sign(self, text, draft):
        command = next(one for one in text.splitlines() if "trust sign" in one)
        for at in (1, 2):
            secret = self.folder / f"secret-{at}"
            secret.write_text(self.region.passphrases[f"holder-{at}"])
            key = self.region.folder / f"holder-{at}" / "root.key"
            words = shlex.split(command.replace("ROOT.KEY", str(key)))
            ketang(*words[1:], "--passphrase-file", secret, "--yes")
        check = next(one for one in text.splitlines() if "trust check" in one)
        assert by_the_text(check).splitlines()[-1] == "valid"
        trust = self.region.center_folder / "trust.json"
        trust.rename(trust.with_name("trust-1.json"))
        draft.rename(trust)


def change_settings(settings, told):
    """Put the first lines in the place of those of the same name, and add the rest."""
    said = settings.read_text()
    new, earlier = (re.findall(r"(?m)^    (\w+ = .*)$", one) for one in told.split("add these:"))
    assert (len(new), len(earlier)) == (3, 3)
    for line in new:
        said, count = re.subn(rf"(?m)^{line.split()[0]} = .*$", line, said)
        assert count == 1
    settings.write_text(said + "\n".join(earlier) + "\n")


@pytest.fixture
def yard(tmp_path):
    return Yard(tmp_path)


@pytest.mark.mosquitto
def test_an_authority_is_replaced_by_the_printed_text_and_revoking_goes_on(yard):
    region, center = yard.region, yard.region.center_folder
    keys, draft, settings = center / "new", yard.folder / "draft.json", center / "center.toml"
    with ExitStack() as broker, ExitStack() as serving:
        broker.enter_context(yard.broker())
        serving.enter_context(region.center())
        old = yard.enroll()
        assert yard.comes_in(old)
        change = ("--trust", center / "trust.json", "--keys", keys, "--out", draft)
        text = ketang("provision", "trust", "rotate-ca", "clients", *change, "--lang", "en")
        yard.sign(text, draft)
        steps = dict(re.findall(r"(?ms)^(\d)\. (.*?)(?=^\d\. |\Z)", text))

        shutil.copyfile(keys / "for-broker.pem", yard.place / "clients-ca.pem")  # 1
        change_settings(settings, steps["2"])
        for line in re.findall(r"(?m)^    (.*)$", steps["3"]):
            by_the_text(line)
        before = yard.renewed()  # 4
        serving.close()
        serving.enter_context(region.center())
        yard.wait(lambda: yard.renewed() > before)
        broker.close()
        broker.enter_context(yard.broker())

        fresh = yard.enroll()
        made_by = load_certificate(keys / "clients-ca.pem").subject
        assert load_certificate(fresh[1] / "identity.pem").issuer == made_by
        assert load_certificate(old[1] / "identity.pem").issuer != made_by
        assert yard.comes_in(old)
        assert yard.comes_in(fresh)
        ketang("broker", "check", "--settings", center / "center-test.toml")  # 5
        assert yard.comes_in(old)
        yard.revoke(old)
        yard.wait(lambda: not yard.comes_in(old))
        assert yard.comes_in(fresh)
        yard.revoke(fresh)
        yard.wait(lambda: not yard.comes_in(fresh))

        shutil.copyfile(keys / "clients-ca.pem", yard.place / "clients-ca.pem")  # 6
        settings.write_text(re.sub(r"(?m)^earlier_.*\n", "", settings.read_text()))
        before = yard.renewed()
        serving.close()
        serving.enter_context(region.center())
        yard.wait(lambda: yard.renewed() > before)
        broker.close()
        broker.enter_context(yard.broker())
        last = yard.enroll()
        assert yard.comes_in(last)
        assert not yard.comes_in(fresh)
        assert not yard.comes_in(old)
        ketang("broker", "check", "--settings", center / "center-test.toml")
