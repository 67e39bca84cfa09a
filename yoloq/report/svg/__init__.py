"""Charts as SVG: functions that return text. Colours and dashes are classes of `html/style.css`."""
