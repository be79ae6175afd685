"""A small fictitious region without any device."""

from ketang_center.registry.values import Data, Level, Unit


def unit(one, level, parent, zh, en):
    return Unit(id=one, level=level, parent=parent, name_zh=zh, name_en=en)


def registry_data():
    """Two schools of five rooms each."""
    places = [
        unit("lan", Level.REGION, None, "岚川", "Lanchuan"),
        unit("shi", Level.CITY, "lan", "云溪市", "Yunxi"),
        unit("xian", Level.COUNTY, "shi", "青禾县", "Qinghe"),
        unit("s1", Level.SCHOOL, "xian", "青禾第一小学", "Qinghe First Primary"),
        unit("s2", Level.SCHOOL, "xian", "柳湾中学", "Liuwan Middle School"),
    ]
    rooms = [
        unit(f"{school}-r{no}", Level.ROOM, school, f"{no} 年级 1 班", f"Class {no}-1")
        for school in ("s1", "s2")
        for no in range(1, 6)
    ]
    return Data(units=(*places, *rooms))
