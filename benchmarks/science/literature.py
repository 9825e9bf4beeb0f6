"""Numbers that others have measured, each with the page it stands on."""

from __future__ import annotations

EBBINGHAUS = (
    ("20 min", 20 * 60.0, 0.582),
    ("1 h", 3_600.0, 0.442),
    ("9 h", 9 * 3_600.0, 0.358),
    ("1 d", 86_400.0, 0.337),
    ("2 d", 2 * 86_400.0, 0.278),
    ("6 d", 6 * 86_400.0, 0.254),
    ("31 d", 31 * 86_400.0, 0.211),
)
"""Name, delay in seconds, savings: Ebbinghaus (1885), as Murre & Dros (2015, table 3) have them."""

CEPEDA_GAPS = (0.0, 1.0, 2.0, 4.0, 7.0, 11.0, 14.0, 21.0, 35.0, 70.0, 105.0)
CEPEDA_INTERVALS = (7.0, 35.0, 70.0, 350.0)
"""Days between the two study sessions, and from the second to the test: Cepeda et al. (2008)."""

CEPEDA_OPTIMUM = ("about 20 % of the interval for a few weeks", "about 5 % for one year")
"""The best gap as a share of the interval: Cepeda et al. (2008), abstract."""

MURDOCK = {"20-1": 6.87, "20-2": 8.53}
"""Words recalled of lists of 20 at one and at two seconds a word: Murdock (1962, table 1)."""

REHEARSAL_BUFFER = 4
"""Words rehearsed in turn: the buffer of Atkinson & Shiffrin (1968), as Rundus (1971) heard it said aloud."""
