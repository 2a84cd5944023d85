"""The law: what becomes of a change, and how it is made to be so."""
