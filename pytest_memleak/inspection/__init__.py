"""Which types accumulate in a live process, without a restart: ways in, what runs there, and the judge.

way in (remote_exec │ gdb │ monitor │ started command) ─► readings ─► judging ─► a look at what grew ─► ObjectsResult
"""
