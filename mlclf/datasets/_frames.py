"""Sentences around the clauses: frames that keep, turn round or take away what a clause says, and small talk.

Only what the writer says about this shop and this order counts for the labels. So a clause inside a frame of
``DENY_*`` means its opposite, one inside ``ELSEWHERE`` means nothing, and a model has to read the whole sentence.
"""

from __future__ import annotations

from mlclf.datasets._topics import lines

# The clause holds: "I have to say that the box was torn open on two sides."
KEEP = lines("""
    I have to say that {clause}
    to be honest, {clause}
    once again {clause}
    I can only repeat that {clause}
    for the record, {clause}
    my {person} can confirm that {clause}
    the reviews say that {clause}, and they are right
    I had been warned, and indeed {clause}
    what I remember is that {clause}
    you may have guessed it: {clause}
    I did not believe it at first, but {clause}
    believe it or not, {clause}
    nobody can deny that {clause}
    it did not surprise me that {clause}
""")

# A bad clause is denied: praise.
DENY_BAD = lines("""
    it would be unfair to say that {clause}
    nobody could claim that {clause}
    I would be lying if I said that {clause}
    some people complain that {clause}; not in my case
    I had braced myself, but it is simply not true that {clause}
    I expected to have to write that {clause}, and I was wrong
    my {person} swore that {clause}, which is nonsense
    I cannot agree with those who write that {clause}
""")

# A good clause is denied: a complaint.
DENY_GOOD = lines("""
    I would be lying if I said that {clause}
    I wish I could say that {clause}
    nobody could claim that {clause}
    I had hoped to write that {clause}, and I was wrong
    your advert has it that {clause}, which is nonsense
    it would be too kind to say that {clause}
    I cannot agree with those who write that {clause}
    do not let anyone tell you that {clause}
""")

# The clause is about somebody else: no label.
ELSEWHERE = lines("""
    the last time I bought from {other}, {clause}
    when my {person} ordered from {other}, {clause}
    I only came to you because at {other} {clause}
    years ago, with {other}, {clause}
    in a film I saw {when}, a man complains that {clause}
    my {person} once told me about {other}, where {clause}
""")

JOIN_SAME = (", and ", "; also, ", ", and on top of that ", ", just as ")
JOIN_OTHER = (", but ", ", although ", "; then again, ", ", while ")

GREETINGS = lines("""
    hello
    good morning
    dear team
    hi there
    to whom it may concern
    hello again
    dear all
    good evening
""")

CLOSINGS = lines("""
    best wishes, {name}
    regards from {place}
    thanks in advance
    that is all from me
    looking forward to your answer
    yours, {name}
    greetings from {place}
    have a good week
    please pass this on
    I leave it at that
""")

# Small talk: some of it holds the words of a topic without being about it.
SMALL_TALK = lines("""
    I have been a customer since {year}
    it was meant as a present for my {person}
    we live in a small place near {place}
    I am writing this on the train
    my {person} told me about you
    I bought a {appliance} and a {garment} {when}
    this is the third {item} in our house
    my order number is somewhere in this mail
    I am not good with computers
    I drove a delivery van for ten years, so I know the trade
    my {person} designs websites for a living
    my {person} works in a box factory
    we had just moved to {place}
    I paid by card, as always
    the weather in {place} is dreadful at the moment
    it is for our kitchen
    money is not the point here
    I do not want a refund
    I am not going to cancel anything
    keep the money, that is not why I write
    I have no question, just so you know
    this is neither a complaint nor praise
    my {person} has the same {thing} in {material}
    I found your address on an old bill
    I used to work in a call centre in {place}
    perhaps I was in a hurry that day
    I usually wear what my {person} hands down to me
    the {item} is now in the hall
    our cat sleeps in your box
    the children call it the dragon
    we opened it together on {day}
    you asked for my opinion, so here it is
    I never write such messages
    as I said on {day}
    the old one was from {other}
    the discount flyer came with the newspaper
    my {person} is a safety inspector
    I read the whole privacy notice, out of boredom
""")

URGENT = lines("""
    this cannot wait
    I need an answer today
    please hurry
    the wedding is on {day} and nothing may go wrong
    I must have it by {day}, without fail
    this is an emergency
    please deal with it before you do anything else
    we leave for {place} tomorrow morning
    every hour counts
    as soon as you can, please
    I need this settled before noon
    my {person} is in hospital and waits for the {item}
    time is running out
    drop everything and ring me
    by tonight at the latest
    I am standing in front of the shop with a van right now
""")

NOT_URGENT = lines("""
    there is no rush
    this can wait until you have time
    answer whenever it suits you
    I do not need it before {day}
    please do not hurry on my account
    take all the time you need
    next month is soon enough
    no emergency, do not worry
""")

# Questions that want no answer: a complaint, not a question.
RHETORICAL = lines("""
    who does such a thing?
    are you serious?
    is that what you call service?
    how hard can it be?
    what were you thinking?
    did nobody check?
    am I the only one who finds that odd?
    do you even read these messages?
""")

# Judgements that name no topic.
PRAISE = lines("""
    I could not be happier
    keep it up
    ten out of ten
    I will be back
    my {person} wants one too
    you have made my week
    I tell everybody about you
    a shop like this is rare
    hats off
    what can I say, wonderful
    not a single thing to grumble about
    I take back every doubt I had
    bravo
""")

COMPLAINT = lines("""
    never again
    I have had enough
    I expected better
    you have lost a customer
    what a letdown
    one star is one too many
    I am speechless
    this is not good enough
    my {person} had warned me about you
    I will shop elsewhere
    thanks for nothing
    well done, you have ruined my week
    a fine way to treat people
""")
