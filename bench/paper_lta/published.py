"""What the distilled-MSCRED paper prints: detection (its Tables 1 and 3) and cost (its Tables 4 and 5).

F1 is not always the harmonic mean of precision and recall there, so rows are presumably means over runs.
"""

from __future__ import annotations

Triple = tuple[float, float, float]


def _rows(windows: tuple[int, ...], text: dict[str, str]) -> dict[str, dict[int, Triple]]:
    """Precision / recall / F1 of each row at each window, as printed."""
    return {
        row: {
            window: tuple(float(part) for part in triple.split("/"))  # type: ignore[misc]
            for window, triple in zip(windows, triples.split())
        }
        for row, triples in text.items()
    }


DETECTION: dict[str, dict[str, dict[int, Triple]]] = {
    "MSL": _rows(
        (800, 400, 200, 100),
        {
            "Base": ".75/.85/.79",
            "Base_small": ".73/.82/.77 .61/.81/.70 .72/.61/.66 .59/.69/.63",
            "full, RNN": ".90/.92/.90 .79/.84/.81 .69/.78/.73 .69/.66/.67",
            "full, LSTM": ".86/.95/.89 .72/.78/.75 .65/.75/.69 .63/.68/.65",
            "full, GRU": ".86/.91/.88 .75/.88/.80 .76/.70/.73 .63/.71/.66",
            "distillation only": ".78/.86/.81 .64/.81/.72 .68/.70/.68 .60/.70/.64",
            "RNN only": ".90/.85/.87 .74/.82/.78 .69/.68/.68 .68/.65/.66",
            "LSTM only": ".84/.87/.86 .70/.73/.72 .67/.68/.67 .60/.69/.64",
            "GRU only": ".87/.85/.85 .76/.80/.78 .68/.70/.69 .67/.64/.65",
        },
    ),
    "SMAP": _rows(
        (100, 50, 25),
        {
            "Base": ".87/.76/.81",
            "Base_small": ".80/.78/.79 .70/.86/.77 .67/.86/.76",
            "full, RNN": ".89/.78/.83 .85/.79/.81 .82/.83/.80",
            "full, LSTM": ".87/.79/.82 .81/.83/.81 .75/.86/.80",
            "full, GRU": ".84/.81/.83 .87/.77/.82 .80/.84/.81",
            "distillation only": ".84/.80/.81 .81/.78/.79 .81/.74/.77",
            "RNN only": ".87/.77/.81 .77/.82/.79 .80/.75/.77",
            "LSTM only": ".86/.76/.80 .76/.81/.78 .76/.78/.77",
            "GRU only": ".82/.81/.82 .83/.80/.77 .80/.80/.78",
        },
    ),
}

TEACHER_WINDOWS = {"MSL": 800, "SMAP": 100}
WINDOWS = {"MSL": 400, "SMAP": 50}
"""The student's window that the paper draws its conclusions at."""

PARAMETERS = {"teacher": 6_687_843, "student": 408_611}
MS_A_WINDOW = {"MSL": (37.0, 20.0), "SMAP": (29.0, 14.0)}
"""Teacher and student, on hardware that is not named."""
SENSORS = {"MSL": 55, "SMAP": 25}
