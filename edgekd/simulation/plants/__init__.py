"""The kinds of plants beside the line; each module declares one."""

from edgekd.simulation.plants import batch, building, compressor, conveyor, turbine
from edgekd.simulation.plants.plant import Plant

PLANTS: dict[str, Plant] = {
    "batch": batch.PLANT,
    "turbine": turbine.PLANT,
    "building": building.PLANT,
    "compressor": compressor.PLANT,
    "conveyor": conveyor.PLANT,
}
