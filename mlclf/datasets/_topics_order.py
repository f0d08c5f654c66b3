"""Phrases about an order on its way: delivery, packaging, refund, cancellation."""

from __future__ import annotations

from mlclf.datasets._topics import Topic, lines

DELIVERY = Topic(
    "delivery",
    subjects=lines("""
        the parcel
        my order
        the shipment
        the {item}
        the second half of my order
        what I ordered {when}
        the {item} I had bought for my {person}
    """),
    bad=lines("""
        turned up {long} after the promised day
        did not reach me until {day}, {long} too late
        was left in the rain
        went to a neighbour three streets away
        sat in a depot for {long}
        took {long} to travel forty miles
        was handed to a stranger
        got lost somewhere between you and me
        was sent to my old address although I had changed it
        crossed the country twice before it found me
        missed the birthday it was meant for
        was nowhere to be seen all week
    """),
    good=lines("""
        was here within {short}
        reached me a day before I expected it
        came exactly when the text message said
        made it to the island in {short}, which nobody else manages
        was at my door the very next morning
        arrived while I was still reading the confirmation
        was waiting in the porch when I came home
        was on time to the minute
        arrived in time for the party
    """),
    ask=lines("""
        where is my {item} right now?
        do you ship to {place}?
        when can I expect the parcel?
        could it be dropped at my office instead?
        is it possible to have it brought on a Saturday?
        how long does it take to get something to {place}?
        has my order left the warehouse yet?
        please tell me which carrier you use
        I would like to know when the {item} will get here
        can the driver carry it up to the third floor?
        the tracking number shows nothing, what does that mean?
    """),
    wish=lines("""
        you should let people choose the hour of arrival
        a pick-up point in {place} would be wonderful
        why not send a text before the van comes
        I would gladly wait longer if you sent everything in one go
        evening drop-offs would help those of us who work
    """),
    short_bad=lines("""
        late again
        still not here
        never arrived
        {long} of waiting
        another missed slot
        lost in the post, apparently
    """),
    short_good=lines("""
        here in {short}
        super quick to arrive
        right on time
        came a day early
        on the doorstep by breakfast
    """),
)

DELIVERY_DRIVER = Topic(
    "delivery",
    subjects=lines("""
        the driver
        your courier
        the man with the van
        the woman who brought it
        the carrier you use
    """),
    bad=lines("""
        drove off before I had even got to the door
        made me stay at home for nothing
        came on the one day I had asked you to avoid
        threw the parcel over the fence
        claimed that nobody was in, with me on the doorstep
        never rang the bell
        wanted me to come down to the lorry
        lost the {item} on the way
    """),
    good=lines("""
        found our farm without a single phone call
        kept to the hour that I had picked
        beat the snow and got to us in time
        carried it up four floors with a smile
        waited until I had found my keys
        hid the parcel from the rain
        phoned ahead so that I could be in
    """),
)

PACKAGING = Topic(
    "packaging",
    subjects=lines("""
        the box
        the carton
        the outer box
        the box around the {item}
        the carton it came in
    """),
    bad=lines("""
        was torn open on two sides
        was big enough for a fridge and held one {item}
        fell apart in my hands
        consisted of nothing but a thin plastic bag
        was crushed like a tin can
        filled my whole bin with foam
        let the {item} rattle around
        contained more plastic than product
        had a hole the size of a fist
        smelled of fish
    """),
    good=lines("""
        was made of recycled paper throughout
        kept every glass in one piece
        was so neat that I kept it
        opened without scissors
        held the {item} as snugly as an egg
        was just the right size
        went straight into the paper bin
        survived a fall down our stairs
    """),
    ask=lines("""
        can I send the carton back to you for reuse?
        do you offer gift wrapping?
        is the foam inside recyclable?
        could it come in a plain box, as it is a surprise?
        does the {item} come in its original box?
        I wonder what the filling is made of
    """),
    wish=lines("""
        please use paper instead of all that plastic
        a smaller carton would save everyone trouble
        how about a handle on the heavy boxes
        you could sell it without the wrapping
        a tear strip would make opening easier
    """),
    short_bad=lines("""
        so much plastic
        a crushed box
        wrapped like an afterthought
        far too much foam
    """),
    short_good=lines("""
        beautifully wrapped
        packed with real care
        no plastic, well done
        boxed like a treasure
    """),
)

WRAPPING = Topic(
    "packaging",
    subjects=lines("""
        the wrapping
        the padding
        the way it was wrapped
        whatever you put around the {item}
    """),
    bad=lines("""
        needed a knife, pliers and a lot of patience
        was an insult to anyone who cares about waste
        did nothing to protect the glass
        left crumbs of foam all over the flat
        stank of glue
    """),
    good=lines("""
        did its job, not a scratch anywhere
        showed that somebody had taken trouble
        was as pretty as a present
        could be used again
    """),
)

REFUND = Topic(
    "refund",
    subjects=lines("""
        the money
        my refund
        the sum for the {item}
        the amount you owe me
        the repayment
    """),
    bad=lines("""
        never showed up on my account
        was {amount} short
        has been promised three times and did not come
        was paid to a card I closed years ago
        came as a voucher that I had not asked for
        was turned down because of one missing sticker
        took {long} and five phone calls
        vanished between your bank and mine
        got reduced by a handling charge
    """),
    good=lines("""
        was back on my card within {short}
        arrived before the return had even reached you
        came in full, postage and all
        was paid without a single question
        showed up the same evening
        was sorted out by a single click
    """),
    ask=lines("""
        how do I get my money back?
        when will you pay me back the {amount}?
        can I return it without the receipt?
        is it possible to get the sum to another account?
        who pays the postage if I send the {item} back?
        do I have {long} to send it back, or less?
    """),
    wish=lines("""
        returns ought to be free for loyal customers
        a printed return label in the box would help
        it would be fairer to pay back the postage too
    """),
    request=lines("""
        I want my money back
        please pay back the {amount}
        I am sending the {item} back and expect the full sum
        kindly reimburse me
        I would rather have the cash than a replacement
        I am returning it {day}
        please transfer the {amount} to the account I used
        I ask for compensation
        take it back and give me what I paid
    """),
    short_bad=lines("""
        still out of pocket
        no repayment in sight
        {amount} gone
    """),
    short_good=lines("""
        money back in {short}
        reimbursed at once
    """),
)

CANCELLATION = Topic(
    "cancellation",
    subjects=lines("""
        the cancellation
        my cancellation
        my second attempt to cancel
        my attempt to cancel
    """),
    bad=lines("""
        was ignored and you charged me all the same
        did not work on any of three tries
        was confirmed and then shipped anyway
        went on for another {long}
        cost me {amount} for no reason
    """),
    good=lines("""
        went through in a minute
        was accepted even though the deadline had passed
        was confirmed straight away
        cost me nothing
    """),
    ask=lines("""
        can I still cancel?
        how do I stop the monthly order?
        is there a way to call off just the {item}?
        until when may I withdraw from the contract?
    """),
    request=lines("""
        please cancel my order
        I no longer want the {item}, so do not send it
        I hereby withdraw from the contract
        kindly end my subscription
        stop the order, I found the {item} in the attic
        call it off, please
        do not ship it, I have changed my mind
    """),
    short_bad=lines("""
        impossible to cancel
        cancelled, charged all the same
    """),
)
