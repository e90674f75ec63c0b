"""How figures look."""

from matplotlib.ticker import PercentFormatter

# Okabe and Ito's palette, which colour-blind readers can tell apart; yellow is left out, since it vanishes on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GRAY = "#767676"
PANEL = 2.9  # inches
TITLE = 10  # points
MAX_COLUMNS = 3
PERCENT = PercentFormatter(1, symbol=" %")
LEGEND = {"framealpha": 0.85, "edgecolor": "none", "fancybox": False}
