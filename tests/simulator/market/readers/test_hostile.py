"""Files that were damaged at random are read or refused, never anything else."""

import gzip
import io
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.market.build import BuildOptions, build_market

EVENTS = (
    "timestamp,availability_zone,instance_type,product_description,spot_price,ondemand_price\n"
    + "".join(
        f"2024-01-01T{hour:02}:00:00Z,us-east-1a,m5.large,Linux/UNIX,0.0{hour + 1},0.1\n" for hour in range(9)
    )
)
SPOTLAKE = "Time,InstanceType,Region,AZ,SPS,IF,OndemandPrice,SpotPrice,Savings\n" + "".join(
    f"2024-01-01 0{hour}:00:00,c5.large,eu-west-1,euw1-az1,3,3.0,0.1,0.0{hour + 1},60\n" for hour in range(9)
)


def parquet() -> bytes:
    buffer = io.BytesIO()
    frame = pd.read_csv(io.StringIO(SPOTLAKE))
    frame.to_parquet(buffer)
    return buffer.getvalue()


def market() -> bytes:
    built = Market.build(
        [Pool("aws", "us-east-1", "us-east-1a", "m5.large")],
        tick_seconds=600,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=1.0,
        spot_capacity=np.ones((1, 5)),
        on_demand_price=3.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.npz"
        built.save(path)
        return path.read_bytes()


FILES = {
    "us-east-1a_v100_1.json": json.dumps(
        {"metadata": {"gap_seconds": 600}, "data": [0, 1, 1, 0], "prices": [0.1, 0.2, 0.2, 0.1]}
    ).encode(),
    "events.csv": EVENTS.encode(),
    "events.csv.gz": gzip.compress(EVENTS.encode()),
    "events.tsv.zst": zstandard.compress(
        "".join(
            f"use1-az1\tm5.large\tLinux/UNIX\t0.1\t2024-01-01T0{h}:00:00+00:00\n" for h in range(9)
        ).encode()
    ),
    "spotlake.csv": SPOTLAKE.encode(),
    "spotlake.parquet": parquet(),
    "market.npz": market(),
}
INSERTS = [
    b"-",
    b"1e400",
    b"NaN",
    b"null",
    b'"',
    b",",
    b"\n",
    b"\0",
    b"[" * 3000,
    b"9" * 5000,
    b"\xff",
    b"true",
    b"\t",
]


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = FILES[name]
    cut, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    damage = data.draw(st.sampled_from(["insert", "delete", "truncate", "replace"]))
    if damage == "insert":
        content = content[:cut] + data.draw(st.sampled_from(INSERTS)) + content[cut:]
    elif damage == "delete":
        content = content[:cut] + content[min(end, cut + 40) :]
    elif damage == "truncate":
        content = content[:cut]
    else:
        content = content[:cut] + data.draw(st.binary(min_size=1, max_size=3)) + content[cut + 1 :]
    path = tmp_path_factory.mktemp("hostile") / name
    path.write_bytes(content)
    try:
        built = (
            Market.load(path)
            if name.endswith(".npz")
            else build_market([path], BuildOptions(on_demand_price=3.0, fill_spot_price=1.0))
        )
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert built.ticks >= 1
        assert np.isfinite(built.spot_price).all()
    assert not refusal or str(path) in refusal or "--" in refusal
