"""Phrases about dealing with the shop: staff, website, privacy."""

from __future__ import annotations

from mlclf.datasets._topics import Topic, lines

STAFF = Topic(
    "staff",
    subjects=lines("""
        the {role}
        {name} from your team
        the {role} on the phone
        the person in the chat
        the {role} who took my call
        whoever answers your mail
        your {role}
    """),
    bad=lines("""
        hung up on me
        kept me on hold for an hour
        had no idea what I was talking about
        laughed at my question
        passed me on four times
        copied the same paragraph into every answer
        talked over me
        treated me like a thief
        promised to ring back and forgot
        could not have cared less
        was rude to my {person}
        answered a question that I had not asked
    """),
    good=lines("""
        stayed after closing time to sort it out
        explained everything twice without a sigh
        rang back within {short}, as promised
        knew the {item} inside out
        could not have been kinder
        listened, for once
        made my {person} laugh
        went out of the way for us
        solved in a minute what I had tried all evening
        remembered me from last time
        had an answer for everything
    """),
    ask=lines("""
        may I speak to the manager?
        is there somebody I can ring?
        who is in charge of the branch in {place}?
        could {name} call me back?
        until what time can one reach you by phone?
        does anyone in your team speak Polish?
    """),
    wish=lines("""
        give {name} a pay rise
        more people on the phones at noon would help
        a real person instead of the robot, please
        train your {role} a little better
    """),
    short_bad=lines("""
        rude people
        nobody answers
        clueless {role}
        an hour on hold
    """),
    short_good=lines("""
        friendly people
        thank you, {name}
        {name} is a star
        such a helpful {role}
    """),
)

WEBSITE = Topic(
    "website",
    subjects=lines("""
        the website
        the app
        your page
        the online shop
        the new site
        your web shop
        the site on my phone
    """),
    bad=lines("""
        crashed each time I pressed the button
        forgot what I had put in
        sent me round in circles
        did not accept my postcode
        logged me out in the middle of paying
        showed things that were sold out long ago
        hid the contact page behind six menus
        took a minute to load each picture
        refused my password four times
        would not scroll on my phone
        lost my basket again
    """),
    good=lines("""
        was a pleasure to use
        had me done in three clicks
        remembered my address for once
        worked on my ancient phone
        found what I was after at once
        was clear and without any clutter
        loaded in a blink
        could be read without glasses
    """),
    ask=lines("""
        how do I change my password?
        where can I find my old orders on the page?
        is there an app for older phones?
        why can't I log in?
        how do I add a second address to my account?
        does the search understand Welsh?
    """),
    wish=lines("""
        a dark mode would be easy on the eyes
        please let us sort by {material}
        bring back the old menu
        a wish list would be a fine thing to have
        you could show the number left in stock
    """),
    short_bad=lines("""
        endless pop-ups
        error 500 again
        a maze of menus
        login broken
    """),
    short_good=lines("""
        three clicks and done
        a tidy little app
        easy to order
    """),
)

PRIVACY = Topic(
    "privacy",
    subjects=lines("""
        your company
        your shop
        somebody at your end
    """),
    bad=lines("""
        gave my number to a company I had never heard of
        went on mailing me after I had said no five times
        showed me the address of another customer
        wanted my date of birth for a {item}
        sold my name to advertisers
        put my letters into somebody else's account
    """),
    ask=lines("""
        what do you store about me?
        who gets to see my address?
        why do you need my phone number?
    """),
    request=lines("""
        please delete my account and everything in it
        take me off your list
        I do not agree to any sharing of my details
        send me a copy of all you have on file about me
    """),
    short_bad=lines("""
        stop the spam
        my details leaked
    """),
)
