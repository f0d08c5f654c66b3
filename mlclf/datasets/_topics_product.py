"""Phrases about the thing bought: quality, sizing, price, safety."""

from __future__ import annotations

from mlclf.datasets._topics import Topic, lines

QUALITY = Topic(
    "quality",
    subjects=lines("""
        the {thing}
        this {thing}
        my new {thing}
        the {thing} you sent
        the {material} one
        the second one
        the replacement
    """),
    bad=lines("""
        broke after {short}
        came with a dent on one side
        was not the one in the picture
        had clearly been used before
        had a crack right through the middle
        looked nothing like the picture
        turned out to be plastic, not {material}
        was scratched all over
        felt like a toy
        was already worn when I got it
    """),
    good=lines("""
        works as well today as it did {long} ago
        is as solid as a rock
        was lovelier than in the pictures
        feels as if it would outlive me
        is made of proper {material}, you can tell at once
        is built the way things used to be
        does exactly what it should
        still shines after {long} of daily use
    """),
    ask=lines("""
        is the {thing} really made of {material}?
        how long should a {thing} like this last?
        can any part of the {appliance} go in the dishwasher?
        does it come with a guarantee?
        are spare parts to be had for the {thing}?
        what is the difference between the {thing} and the older model?
        is it normal that the {appliance} hums?
        I would like to know whether the colour fades
    """),
    wish=lines("""
        a stronger zip would do the {garment} good
        please bring back the old model in {material}
        you should offer the {thing} in {material} too
        a longer cable would make the {appliance} perfect
        maybe use better glue for the handle
    """),
    short_bad=lines("""
        broken on arrival
        cheaply made
        fell to bits
        shoddy work
        a {thing} for the bin
        poor {material}
    """),
    short_good=lines("""
        a superb {thing}
        lovely {material}
        best {thing} I ever had
        solid work
        built to last
        what a {thing}
    """),
)

QUALITY_CLOTHES = Topic(
    "quality",
    subjects=lines("""
        the {garment}
        this {garment}
        my {person}'s {garment}
        the {cloth} {garment}
    """),
    bad=lines("""
        came apart at the seams
        lost its colour in the first wash
        had a button missing
        pilled after {short}
        itched like straw
        let the rain in
        tore when I sat down
    """),
    good=lines("""
        has been through mud and rain and still looks new
        turned every head at the party
        was stitched like something from a tailor
        felt soft even after twenty washes
        kept me warm in the worst of winters
        never lost a thread
    """),
)

QUALITY_DEVICES = Topic(
    "quality",
    subjects=lines("""
        the {appliance}
        this {appliance}
        the {appliance} we bought {when}
        my {person}'s {appliance}
    """),
    bad=lines("""
        stopped working on {day}
        made a noise like an old tractor
        rusted within {long}
        gave up the ghost in the second week
        wobbled from the first day
        leaked all over the counter
        needed three tries to switch on
        hardly got warm
    """),
    good=lines("""
        ran without a hiccup from the start
        was so quiet that I thought it was off
        does in a minute what the old one did in ten
        was a joy to use every morning
        still runs like clockwork after {long}
        cleaned up in no time
    """),
)

SIZING = Topic(
    "sizing",
    subjects=lines("""
        the {garment}
        the {garment} in medium
        the larger {garment}
        the {garment} for my {person}
    """),
    bad=lines("""
        was two numbers too small
        would have fitted a bear
        pinched at the shoulders
        ended well above my ankles
        could not be closed over my chest
        was cut for somebody half my height
        had sleeves that hung down to my knees
        ran narrow, whatever the chart said
    """),
    good=lines("""
        fitted like a glove
        sat perfectly from the first try
        was true to the chart
        had just the right length
        followed my shape without pinching anywhere
    """),
    ask=lines("""
        should I take a medium or a large in this {garment}?
        does the {garment} run small?
        how tall is the model in the picture?
        is the {garment} to be had in a wide fit?
        I am between two numbers, which one is right for me?
        what does 42 mean in British terms?
    """),
    wish=lines("""
        longer legs for tall people, please
        a chart in centimetres would be useful
        please make the {garment} in half sizes
        it would be good to see it on people of all shapes
    """),
    request=lines("""
        I need to swap the {garment} for a larger one
        please exchange it for one number smaller
        I measure 104 around the chest, for your information
    """),
    short_bad=lines("""
        way too tight
        too short by a hand
        baggy as a tent
    """),
    short_good=lines("""
        a perfect fit
        fits my {person} to a tee
    """),
)

PRICE = Topic(
    "price",
    subjects=lines("""
        the price
        the price of the {item}
        what I had to pay
        the total
        the postage
        the final sum
        the bill
    """),
    bad=lines("""
        was twice what others ask
        went up between the basket and the till
        was a joke for such a {item}
        was {amount} higher than in the advert
        dropped by a third the day after I had paid
        made me swallow hard
        was daylight robbery
    """),
    good=lines("""
        was lower than anywhere else
        was more than fair for what I got
        left me enough for a second one
        was a steal
        was worth every penny
        stayed the same as {long} ago
    """),
    ask=lines("""
        is there a discount for students?
        how much is the {item} with postage?
        why was I charged {amount} twice?
        will the {item} be in the sale?
        can I pay in instalments?
        does the voucher work for the {item} too?
        could you tell me what {amount} on my bill stands for?
    """),
    wish=lines("""
        a discount for old customers would be a nice gesture
        free postage from {amount} upwards would make me buy more
        you should show the full sum before the last page
        let us collect points, like others do
    """),
    short_bad=lines("""
        far too dear
        overpriced
        {amount} for that
        what a rip-off
    """),
    short_good=lines("""
        a real bargain
        cheap and cheerful
        unbeatable value
        good for the money
    """),
)

PRICE_OFFERS = Topic(
    "price",
    subjects=lines("""
        the offer
        the discount code
        your sale
        the voucher
        the points card
    """),
    bad=lines("""
        took nothing off in the end
        came with charges nobody had mentioned
        had run out an hour before it began
        was good for everything except what I wanted
        was a trick to make me spend more
    """),
    good=lines("""
        saved me {amount}
        made the {item} affordable at last
        took off more than I had thought
        could be used on everything, even in the sale
    """),
)

SAFETY = Topic(
    "safety",
    subjects=lines("""
        the {appliance}
        your {appliance}
        the {appliance} you sold us
        this {appliance}
    """),
    bad=lines("""
        caught fire
        gave my {person} an electric shock
        got so hot that it burned the table
        sent sparks across the kitchen
        blew up while I was in the next room
        cut my {person} on a sharp edge
        filled the room with smoke
        gave my {person} a rash
        melted its own cable
    """),
    ask=lines("""
        is the paint free of lead?
        can a toddler swallow any part of it?
        has the {appliance} been tested by anyone?
        does the {item} contain nuts or latex?
    """),
    request=lines("""
        you ought to warn other buyers of the {appliance}
        please recall this {appliance}
    """),
    short_bad=lines("""
        dangerous
        a fire hazard
    """),
)
