"""Documents that cross a trust boundary, and how to check them.

Standard library only: the device agent and the trust pack's verifier run this code where nothing else
is installed.
"""
