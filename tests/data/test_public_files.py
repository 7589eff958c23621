"""Files of the kinds that were found in public repositories and could not be read at first; all values are made up.

Each test names its file's source and what was in the way. Of those that are long enough the whole file went through
`look`, `distill`, `evaluate`, `export` and `edgekd-run --csv`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgekd.data import look
from edgekd.data.reading import Reading
from edgekd.data.save import save_reading
from edgekd.runtime.errors import RecordingError

START = datetime(2025, 3, 3, 6, tzinfo=UTC)
ROWS = 60


def values(i: int) -> tuple[float, float]:
    return round(20 + 3 * math.sin(i / 5), 2), round(400 + 7 * math.cos(i / 3), 1)


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "log.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def times(step: timedelta, form: str) -> list[str]:
    return [(START + i * step).strftime(form) for i in range(ROWS)]


def names(reading: Reading) -> list[str]:
    return [column.name for column in reading.columns]


def check(reading: Reading, period_s: float, temperature: str = "temp", start: datetime | None = START) -> None:
    """Every row is read, at its time."""
    assert len(reading.values) == ROWS
    assert reading.period_s == period_s
    column = reading.values[:, names(reading).index(temperature)]
    assert column == pytest.approx([values(i)[0] for i in range(ROWS)])
    if start is not None:
        assert reading.times_s is not None
        assert reading.times_s[0] == start.timestamp()


def test_date_and_time_of_day_with_dots(tmp_path: Path) -> None:
    """BarbaraPriwitzerGitHubRT/AngewandteStatistik, AirQualityUCI.csv: `10/03/2004,March,18.00.00`; such a
    time of day was taken for a date, and refused."""
    rows = (
        f"{day},March,{clock},{temp},{gas}"
        for day, clock, (temp, gas) in zip(
            times(timedelta(hours=1), "%d/%m/%Y"), times(timedelta(hours=1), "%H.%M.%S"), map(values, range(ROWS))
        )
    )
    reading = look(written(tmp_path, "Date,Month,Time,temp,gas", *rows))
    check(reading, 3600.0)
    assert names(reading) == ["temp", "gas"]


def test_rows_of_empty_cells_behind_the_last(tmp_path: Path) -> None:
    """UCI's own AirQualityUCI.csv (rebuilt from the copy in ahmetmenevse/UCI_airquality) has two columns without a name
    and 114 rows of `;;;;` at its end; refused for them."""
    stamps = times(timedelta(hours=1), "%d/%m/%Y;%H.%M.%S")
    numbers = [";".join(map(str, values(i))).replace(".", ",") for i in range(ROWS)]
    rows = [f"{stamp};{both};;" for stamp, both in zip(stamps, numbers)]
    reading = look(written(tmp_path, "Date;Time;temp;gas;;", *rows, *[";;;;;"] * 40))
    check(reading, 3600.0)
    assert reading.notes == []


def test_a_sensor_named_t_is_written_and_read_back(tmp_path: Path) -> None:
    """The same file's temperature is `T`: `look -o` told its user to rename it."""
    stamps = times(timedelta(hours=1), "%Y-%m-%d %H:%M")
    reading = look(
        written(tmp_path, "Date,T,gas", *(f"{t},{values(i)[0]},{values(i)[1]}" for i, t in enumerate(stamps)))
    )
    save_reading(reading, tmp_path / "clean.csv")
    check(look(tmp_path / "clean.csv"), 3600.0, temperature="T")


@pytest.mark.parametrize("parts", ["year,month,day,hour", "year,month,day"])
def test_year_month_day_in_columns(tmp_path: Path, parts: str) -> None:
    """minsh30/Project4_PM2.5, PRSA_data_2010.1.1-2014.12.31.csv, and weecology/PortalData,
    Weather/Portal_weather_19801989.csv: read as sensors without a time."""
    step = timedelta(hours=1) if "hour" in parts else timedelta(days=1)
    rows = [
        f"{i + 1},{','.join(str(getattr(START + i * step, part)) for part in parts.split(','))},NW,{values(i)[0]}"
        for i in range(ROWS)
    ]
    reading = look(written(tmp_path, f"No,{parts},wind,temp", *rows))
    check(reading, step.total_seconds(), start=START if "hour" in parts else START.replace(hour=0))
    assert names(reading) == ["temp"]
    assert reading.layout.time == tuple(parts.split(","))


def test_parts_of_a_date_beside_the_date(tmp_path: Path) -> None:
    """weecology/PortalData, Weather/Portal4sw_regional_weather.csv: year, month and day were sensors."""
    days = times(timedelta(days=1), "%Y,%-m,%-d,%Y-%m-%d")
    reading = look(
        written(tmp_path, "year,month,day,date,temp", *(f"{day},{values(i)[0]}" for i, day in enumerate(days)))
    )
    assert names(reading) == ["temp"]
    assert "column 'year' left out: it looks like another time" in " ".join(reading.notes)


@pytest.mark.parametrize("name", ["entry_id", "sno", "Rec_No"])
def test_numbers_of_rows_are_no_sensors(tmp_path: Path, name: str) -> None:
    """Ronanu/Heizung, feeds.csv (ThingSpeak), and muditabaid/RoomOccupancyDetector, datatraining.txt: entry_id and sno
    were sensors, without a word."""
    stamps = times(timedelta(minutes=1), "%Y-%m-%d %H:%M:%S UTC")
    rows = (f"{stamp},{1000 + i},{values(i)[0]}" for i, stamp in enumerate(stamps))
    reading = look(written(tmp_path, f"created_at,{name},temp", *rows))
    check(reading, 60.0)
    assert names(reading) == ["temp"]
    assert f"column '{name}' left out: it counts the rows" in reading.notes


def test_one_name_fewer_than_cells(tmp_path: Path) -> None:
    """adelchi91/room_presence_detector, datatraining.txt (UCI Occupancy): refused, for one of the names is `date`."""
    stamps = times(timedelta(minutes=1), "%Y-%m-%d %H:%M:%S")
    rows = (f'"{i + 1}","{stamp}",{values(i)[0]},{values(i)[1]}' for i, stamp in enumerate(stamps))
    reading = look(written(tmp_path, '"date","temp","CO2"', *rows))
    check(reading, 60.0)
    assert names(reading) == ["temp", "CO2"]


def test_names_that_are_a_column_off_are_refused(tmp_path: Path) -> None:
    """The same, but the names begin with the first column: a value would go under another's name."""
    stamps = times(timedelta(minutes=1), "%Y-%m-%d %H:%M:%S")
    rows = (f"{stamp},{values(i)[0]},{values(i)[1]}" for i, stamp in enumerate(stamps))
    with pytest.raises(RecordingError, match="3 cells, the header 2 names"):
        look(written(tmp_path, "date,temp", *rows))


def test_units_below_names_below_a_preamble(tmp_path: Path) -> None:
    """Qepanna/goFlux, inst/extdata/LI7810/LI7810.data (LI-COR): `Software Version: 2.3.3` was taken for
    the first row."""
    stamps = times(timedelta(seconds=1), "%Y-%m-%d\t%H:%M:%S")
    reading = look(
        written(
            tmp_path,
            "Model:\tLI-1",
            "Software Version:\t2.3.3",
            "Timestamp:\t2025-03-03 05:00:00",
            "DATAH\tNANOSECONDS\tDIAG\tDATE\tTIME\ttemp\tCO2\tRING_DOWN_TIME",
            "DATAU\tnsecs\tdiag\tdate\ttime\t°C\tppm\tµsecs",
            *(f"DATA\t836\t0\t{stamp}\t{values(i)[0]}\t{values(i)[1]}\t11.8" for i, stamp in enumerate(stamps)),
        )
    )
    check(reading, 1.0)
    assert names(reading) == ["NANOSECONDS", "DIAG", "temp", "CO2", "RING_DOWN_TIME"]
    assert {column.name: column.unit for column in reading.columns}["CO2"] == "ppm"


def test_a_signature_behind_the_last_row(tmp_path: Path) -> None:
    """Qepanna/goFlux, inst/extdata/UGGA/UGGA.txt and N2Oi2/N2Oi2.txt (Los Gatos): 931 and 625 lines of a PGP message
    follow the rows; refused as lines that cannot be read, or as a file without rows."""
    stamps = times(timedelta(seconds=1), "  %d/%m/%Y %H:%M:%S.123")
    reading = look(
        written(
            tmp_path,
            "SN:3K4 BD:Nov 27 2018",
            "     Time,   temp,   CO2",
            *(f"{stamp},   {values(i)[0]:.6e},   {values(i)[1]:.6e}" for i, stamp in enumerate(stamps)),
            "-----BEGIN PGP MESSAGE-----",
            *(["jA0EAwMCA1eMBN1pJXlgye0yKfx5gz/+dTuNFdeXtOZ"] * 400),
            "-----END PGP MESSAGE-----",
        )
    )
    check(reading, 1.0, start=None)
    assert "line 63, and 401 more: a remark, left out: '-----BEGIN PGP MESSAGE-----'" in reading.notes


def test_remarks_between_rows_and_cells_without_a_name(tmp_path: Path) -> None:
    """Qepanna/goFlux, inst/extdata/EGM5/EGM5.TXT (PP Systems): 17 names for 22 cells, and lines such as `Zero`;
    refused."""
    stamps = times(timedelta(seconds=1), "%d/%m/%y,%H:%M:%S")
    rows = [f"M5,{stamp},{values(i)[0]},  {values(i)[1]},   300,20,0,{i % 7}" for i, stamp in enumerate(stamps)]
    reading = look(
        written(tmp_path, "Tag(M3),Date,Time,temp,CO2,Flow", "Zero", "Start", *rows[:30], "Zero", "Start", *rows[30:])
    )
    assert len(reading.values) == ROWS
    assert names(reading) == ["temp", "CO2", "Flow"]
    assert "a remark, left out: 'Zero'" in " ".join(reading.notes)
    assert "column 8" in " ".join(reading.notes)


def test_names_above_remarks(tmp_path: Path) -> None:
    """Qepanna/goFlux, inst/extdata/LI6400/LI6400.txt (LI-COR): lines of constants stand between names and rows, so that
    the columns were named s1, s2 …"""
    stamps = times(timedelta(seconds=1), "%H:%M:%S")
    reading = look(
        written(
            tmp_path,
            '"OPEN 6.1.4"',
            "$STARTOFDATA$",
            '"Obs"\t"HHMMSS"\t"type"\t"temp"\t"CO2S"\t"Flow"\t"Press"\t"Mode"\t"Area"\t"CTarget"',
            '"Const="\t433\t"MeasTime"',
            '"Const="\t434\t"LogEvery"',
            *(
                f'{i + 1}\t"{t}"\t"NEE"\t{values(i)[0]}\t{values(i)[1]}\t3.1\t101.1\t1\t9\t403.7'
                for i, t in enumerate(stamps)
            ),
        )
    )
    check(reading, 1.0, start=None)
    assert reading.layout.time == ("HHMMSS",)
    assert "no date" in " ".join(reading.notes)


def test_seconds_since_1970_without_a_name(tmp_path: Path) -> None:
    """Qepanna/goFlux, inst/extdata/eosMX12/eosMX12.log (Eosense): no header; its first column is the time, and was a
    sensor."""
    rows = (f"{int(START.timestamp()) + 4 * i} -1 {values(i)[0]} {values(i)[1]}" for i in range(ROWS))
    check(look(written(tmp_path, *rows)), 4.0, temperature="s2")


def test_a_row_that_says_that_it_holds_units(tmp_path: Path) -> None:
    """Qepanna/goFlux, inst/extdata/GAIA/GAIA.csv (GAIA2TECH): its row of units holds kinds of devices as well, and was
    joined to the names."""
    stamps = times(timedelta(seconds=1), "%Y-%m-%d %H:%M:%S.000")
    rows = (f'{stamp}\t"Chamber 1"\t17\t3\t{values(i)[0]}\t{values(i)[1]}' for i, stamp in enumerate(stamps))
    head = (
        '"Titles:"\t"SEQUENCE"\t"DeviceType"\t"Mode"\t"temp"\t"CO2"',
        '"Units:"\t""\t"Sensor"\t"Multiplexer"\t"C"\t"ppm"',
    )
    reading = look(written(tmp_path, "sep=\t", *head, *rows))
    check(reading, 1.0)
    assert names(reading) == ["DeviceType", "Mode", "temp", "CO2"]


def test_one_json_document_is_refused_as_such(tmp_path: Path) -> None:
    """Qepanna/goFlux, inst/extdata/LI8200/LI8200.json (LI-COR): refused for its line 250, which is `0]`."""
    with pytest.raises(RecordingError, match="one JSON document"):
        look(written(tmp_path, '{ "name": "Farm",', '"datasets":  [', '{"temp": [20.1,', "20.2]}", "]", "}"))


def test_uneven_rows_are_told_a_period_that_works(tmp_path: Path) -> None:
    """Ronanu/Heizung, feeds.csv: `--resample mean`, as the note said, left every second sample empty, and all were
    refused."""
    at = [60 * (i + (i * i) % 7 * (i % 3)) for i in range(400)]
    rows = (f"{(START + timedelta(seconds=s)).isoformat()},{values(i)[0]}" for i, s in enumerate(sorted(set(at))))
    path = written(tmp_path, "created_at,temp", *rows)
    told = next(note for note in look(path).notes if "--resample" in note)
    reading = look(path, resample=told.partition("--resample ")[2].partition(" ")[0])
    assert names(reading) == ["temp"]


def test_time_in_minutes(tmp_path: Path) -> None:
    """A unit in the name of the clock was refused; `0.1667` minutes are 10 s."""
    reading = look(
        written(tmp_path, "t [min];temp", *(f"{i / 6:.4f};{values(i)[0]}".replace(".", ",") for i in range(ROWS)))
    )
    check(reading, 10.0, start=None)
    assert reading.layout.time_format == "min"


def test_home_assistant_says_one_state_a_row(tmp_path: Path) -> None:
    """wkcollis1-eng/Lifepo4-Battery-Banks, data/history.csv (Home Assistant): `entity_id,state,last_changed`; entities
    were taken for machines."""
    stamps = times(timedelta(minutes=1), "%Y-%m-%dT%H:%M:%S.000Z")
    rows = [
        f"sensor.{name},{value},{stamps[i]}"
        for j, name in enumerate("ab")
        for i, value in enumerate(v[j] for v in map(values, range(ROWS)))
    ]
    rows[7] = f"sensor.a,unavailable,{stamps[7]}"
    reading = look(written(tmp_path, "entity_id,state,last_changed", *rows))
    assert (len(reading.values), reading.period_s, names(reading)) == (ROWS, 60.0, ["sensor.a", "sensor.b"])
    assert reading.values[8].tolist() == pytest.approx(values(8))
    assert math.isnan(reading.values[7, 0])


def test_a_topic_before_each_message(tmp_path: Path) -> None:
    """The console log that arendst/Tasmota shows in the head of xdrv_91_teleperiod.ino, and what `mosquitto_sub -v`
    writes: read as a table of words. Two topics are two machines."""
    stamps = times(timedelta(seconds=10), "%Y-%m-%dT%H:%M:%S")
    rows = [
        f'{t[-8:]}.197 MQT: tele/boiler/SENSOR = {{"Time":"{t}","BTMP":{{"temp":{values(i)[0]}}}}}'
        for i, t in enumerate(stamps)
    ]
    check(look(written(tmp_path, *rows)), 10.0)
    both = [row.replace("boiler", boiler) for row in rows for boiler in ("boiler1", "boiler2")]
    with pytest.raises(RecordingError, match="--group topic=tele/boiler1/SENSOR"):
        look(written(tmp_path, *both))


def test_a_log_line_of_time_level_and_pairs(tmp_path: Path) -> None:
    """A service's log, `2025-03-03 06:00:00 INFO temp=50.1, CO2=400`: read as words, or with a sensor `INFO temp`."""
    stamps = times(timedelta(seconds=10), "%Y-%m-%d %H:%M:%S")
    reading = look(
        written(tmp_path, *(f"{t} INFO temp={values(i)[0]}, CO2={values(i)[1]}" for i, t in enumerate(stamps)))
    )
    check(reading, 10.0)
    assert names(reading) == ["temp", "CO2"]
