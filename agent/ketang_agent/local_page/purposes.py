"""Every field a device may send, with what it is for, in both languages.

Loaded only when the page is asked for. A test holds it to the contract: no field may lack a line.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Both(NamedTuple):
    """One text, Chinese and English."""

    zh: str
    en: str


TITLES: Mapping[str, Both] = {
    "usage": Both("设备使用情况", "How the device is used"),
    "host": Both("电脑运行状况", "How the machine is doing"),
    "network": Both("网络状况", "Network"),
    "inventory": Both("设备型号与配置", "What the device is"),
    "security": Both("安全状况", "Security"),
    "occupancy": Both("教室人数（不识别任何人）", "People in the room (nobody is recognised)"),
    "environment": Both("教室环境（仅物联网关）", "Room climate (gateways only)"),
    "event": Both("事件", "Events"),
}

WHY: Mapping[str, Both] = {
    "usage": Both(
        "统计终端是否得到常态化应用。只有秒数，没有内容。",
        "To see whether terminals are really used. Seconds only, never content.",
    ),
    "host": Both("及早发现需要维修的设备。", "To find devices that need repair in time."),
    "network": Both(
        "了解学校网络和 IPv6 是否达标。", "To see whether networks and IPv6 are as they should be."
    ),
    "inventory": Both("设备台账，制定更新计划。", "For the register of devices and renewal plans."),
    "security": Both(
        "检查基本安全措施是否到位。", "To see whether basic protections are in place."
    ),
    "occupancy": Both(
        "了解有人时设备是否开着、没人时是否忘了关。",
        "To see whether devices run in empty rooms.",
    ),
    "environment": Both("了解教室的温度和空气。", "To know the room's temperature and air."),
    "event": Both(
        "说明数据为什么有空缺，及早发现故障。", "To explain gaps and to notice faults in time."
    ),
}

FIELDS: Mapping[str, Mapping[str, Both]] = {
    "usage": {
        "window_s": Both("统计时段的长度（秒）", "length of the window, seconds"),
        "active_s": Both("有人操作的秒数", "seconds with somebody at it"),
        "presenting_s": Both("授课展示的秒数", "seconds of presenting without input"),
        "idle_s": Both("开着但无人使用的秒数", "seconds on, with nobody using it"),
        "locked_s": Both("锁屏的秒数", "seconds locked"),
        "asleep_s": Both("睡眠的秒数", "seconds asleep"),
        "unknown_s": Both("无法判断的秒数", "seconds nobody could tell"),
        "idle_source": Both(
            "由系统的哪个部分得知空闲时间", "which part of the system told idle time"
        ),
        "categories": Both(
            "前台程序属于哪一类，各多少秒；不含程序名和标题",
            "seconds by class of program in front; never its name or title",
        ),
        "platform": Both("教学平台", "teaching platforms"),
        "whiteboard": Both("白板", "whiteboards"),
        "courseware": Both("课件", "courseware"),
        "browser": Both("浏览器（不含网址）", "browsers (never addresses)"),
        "media": Both("音视频播放", "media players"),
        "office": Both("办公软件", "office programs"),
        "system": Both("系统程序", "system programs"),
        "other": Both("其他", "all others"),
    },
    "host": {
        "window_s": Both("统计时段的长度（秒）", "length of the window, seconds"),
        "cpu_mean_pct": Both("处理器平均占用", "mean processor load"),
        "cpu_max_pct": Both("处理器最高占用", "highest processor load"),
        "memory_used_pct": Both("内存占用", "memory in use"),
        "disk_free_pct": Both("磁盘剩余比例", "share of the disk that is free"),
        "disk_free_mb": Both("磁盘剩余空间", "free disk space"),
        "temperature_max_c": Both("最高温度", "highest temperature"),
        "battery_pct": Both("电池电量", "battery charge"),
        "battery_health_pct": Both("电池健康度", "battery health"),
        "on_mains": Both("是否接通电源", "whether it is plugged in"),
        "uptime_s": Both("开机时长", "time since start"),
    },
    "network": {
        "window_s": Both("统计时段的长度（秒）", "length of the window, seconds"),
        "link": Both("有线还是无线", "cable or wireless"),
        "link_mbps": Both("网卡速率", "speed of the link"),
        "ipv4": Both("有无 IPv4 地址（不含地址本身）", "kind of IPv4 address (never the address)"),
        "ipv6": Both("有无 IPv6 地址（不含地址本身）", "kind of IPv6 address (never the address)"),
        "ipv6_probe": Both("IPv6 能否连通", "whether IPv6 works"),
        "mqtt_family": Both("与中心用哪种协议连接", "which protocol reaches the centre"),
        "rtt_ms": Both("到中心的往返时间", "round trip to the centre"),
        "received_kbps": Both("接收速率（只是总量）", "rate received (a total only)"),
        "sent_kbps": Both("发送速率（只是总量）", "rate sent (a total only)"),
    },
    "inventory": {
        "vendor": Both("厂商", "maker"),
        "model": Both("型号", "model"),
        "os_name": Both("操作系统", "operating system"),
        "os_version": Both("系统版本", "its version"),
        "cpu_model": Both("处理器型号", "processor"),
        "cpu_cores": Both("处理器核数", "processor cores"),
        "memory_mb": Both("内存大小", "memory"),
        "disk_gb": Both("磁盘大小", "disk"),
        "architecture": Both("处理器架构", "architecture"),
        "agent_version": Both("本程序的版本", "version of this program"),
    },
    "security": {
        "firewall_on": Both("防火墙是否打开", "whether a firewall is on"),
        "disk_encrypted": Both("磁盘是否加密", "whether the disk is encrypted"),
        "clock_synced": Both("时钟是否对准", "whether the clock is kept right"),
        "patch_age_days": Both("距上次系统更新的天数", "days since the last update"),
        "integrity": Both("本程序的文件是否被改动", "whether this program's files were changed"),
    },
    "occupancy": {
        "window_s": Both("统计时段的长度（秒）", "length of the window, seconds"),
        "view": Both("摄像头能否看清教室", "whether the camera could see the room"),
        "scans": Both("看了几次", "how often it looked"),
        "median": Both("人数中位数；1 至 4 人只记“少量”", "middle count; 1 to 4 is only “few”"),
        "p90": Both("较高人数；1 至 4 人只记“少量”", "high count; 1 to 4 is only “few”"),
        "confidence_pct": Both("结果的可信程度", "how sure the count is"),
    },
    "environment": {
        "window_s": Both("统计时段的长度（秒）", "length of the window, seconds"),
        "temperature_dc": Both("气温", "temperature"),
        "humidity_pct": Both("湿度", "humidity"),
        "co2_ppm": Both("二氧化碳", "carbon dioxide"),
        "pm25_ugm3": Both("细颗粒物", "fine dust"),
        "light_lux": Both("光照", "light"),
    },
    "event": {
        "name": Both("发生了什么（开机、睡眠、故障等）", "what happened (start, sleep, fault, …)"),
        "fault": Both("哪一种故障", "which fault"),
        "seconds": Both("持续或相差的秒数", "seconds it took or was off"),
    },
}

EVERY: Mapping[str, Both] = {
    "subject": Both(
        "是哪台设备（设备编号，不是人）", "which device (a device's id, never a person)"
    ),
    "wall_ms": Both("时间", "when"),
    "boot_id": Both("第几次开机（随机编号）", "which start of the machine (a random id)"),
    "boottime_ms": Both("开机后多久", "how long after the start"),
    "time": Both("时钟是否可信", "whether the clock is to be trusted"),
    "body": Both("下表各项", "the fields in the tables below"),
}
