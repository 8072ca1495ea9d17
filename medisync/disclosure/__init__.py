"""Disclosure control: what of a result may be shown to those who may not see patients' data.

Pure: :func:`medisync.disclosure.release.release` takes a result, a policy and what was released before. Each rule a
hospital may argue about is a file of its own. See docs/disclosure.md.
"""
