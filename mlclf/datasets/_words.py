"""Words that fill the slots of the phrases."""

from __future__ import annotations

from mlclf.datasets._topics import lines

_APPLIANCES = lines("""
    kettle
    toaster
    blender
    hairdryer
    fan heater
    coffee machine
    sewing machine
    electric blanket
    rice cooker
    desk fan
    waffle iron
    vacuum cleaner
""")

_GARMENTS = lines("""
    coat
    jacket
    raincoat
    jumper
    dress
    shirt
    cardigan
    wedding suit
    school uniform
    dressing gown
    ski suit
    waistcoat
""")

_THINGS = lines("""
    lamp
    backpack
    wall clock
    bookcase
    garden chair
    suitcase
    chess set
    tent
    teapot
    bicycle helmet
    rug
    radio
    umbrella
    desk
    frying pan
    telescope
    mirror
    doll's house
    bird feeder
    fountain pen
""")

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")

SLOTS: dict[str, tuple[str, ...]] = {
    "item": _THINGS + _GARMENTS + _APPLIANCES,
    "garment": _GARMENTS,
    "appliance": _APPLIANCES,
    "thing": _THINGS,
    "material": ("oak", "leather", "steel", "copper", "bamboo", "glass", "walnut", "brass", "pine", "china", "silver"),
    "cloth": ("wool", "linen", "silk", "cotton", "tweed", "velvet", "denim"),
    "person": (
        *("mother", "father", "sister", "brother", "daughter", "son", "wife", "husband", "aunt", "uncle", "nephew"),
        *("neighbour", "boss", "grandmother", "best friend", "colleague", "niece", "godson", "flatmate", "partner"),
    ),
    "place": (
        *("Leeds", "Cork", "Orkney", "Cardiff", "Malta", "Norwich", "Galway", "Lisbon", "Dundee", "Utrecht", "Bath"),
        *("Guernsey", "Aarhus", "Penzance", "Inverness", "Swansea", "Graz", "Belfast", "Hull", "Ghent", "York"),
    ),
    "day": (*_WEEKDAYS, *(f"the {n}th of {month}" for n in (4, 7, 12, 18, 26) for month in _MONTHS)),
    "when": (*(f"last {day}" for day in _WEEKDAYS), *(f"in {month}" for month in _MONTHS), "the other week"),
    "long": (*(f"{n} {unit}" for n in _NUMBERS for unit in ("weeks", "days", "months")), "a fortnight", "ages"),
    "short": (*(f"{n} {unit}" for n in _NUMBERS[:4] for unit in ("days", "hours")), "a day", "half a week"),
    "amount": tuple(f"{sum_} pounds" for sum_ in range(12, 190, 7)) + tuple(f"£{sum_}.50" for sum_ in range(6, 90, 9)),
    "name": (
        *("Maria", "Tom", "Aisha", "Jonas", "Priya", "Ewan", "Chloe", "Mehmet", "Sinead", "Oskar", "Lucy", "Kwame"),
        *("Hannah", "Rafael", "Ingrid", "Dylan", "Noor", "Peter", "Bethan", "Yusuf"),
    ),
    "role": ("agent", "advisor", "assistant", "sales clerk", "manager", "trainee", "technician", "cashier", "expert"),
    "year": tuple(str(year) for year in range(1998, 2025)),
    "other": (
        *("another shop", "a rival of yours", "a big marketplace", "the shop in town", "some cheap website"),
        *("a department store", "one of those discount chains", "a seller abroad", "the catalogue my aunt uses"),
    ),
}
