"""Counting heads on the device, in a child process of its own.

``supervise``, ``protocol``, ``sources`` and ``limits`` belong to the parent too and import nothing
heavy; every other module here is imported by the child alone.
"""
