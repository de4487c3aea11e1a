"""What a deployment needs, checked one by one: before it, machine and account; after it, the system.

Nothing is changed. Each look ends in a line that says ok, or what to do.
"""

from boxdrop.doctor.account import look_at_account
from boxdrop.doctor.lines import Line
from boxdrop.doctor.machine import look_at_machine
from boxdrop.doctor.plan import Plan, read_plan
from boxdrop.doctor.system import look_at_system

__all__ = ["Line", "Plan", "look_at_account", "look_at_machine", "look_at_system", "read_plan"]
