"""Write a long invented book to read: the logbook of a lighthouse and survey expedition, fourteen months of entries.

    python examples/make_logbook.py logbook.md --words 60000 --seed 7

Beside `logbook.md` it writes `logbook.questions.jsonl`: questions whose answers stand in one entry each and nowhere
else, with the date of that entry. Names, places and answers change with the seed.

The text comes from templates. In a template, `[a|b|c]` is a choice, `[1:a|b]` one that is made
alike wherever it has the same number, and `<name>` is filled in: with a person by job
(`<cook>`) or picked for the template (`<A>`, `<B>`, with `<A.he>`, `<A.his>`, `<A.him>`), or with what the station
knows about itself (`<oil>`, `<place>`, `<glass>`). Templates of a kind are used up before any comes again. Plots run
over several entries: their people and things stay the same, whoever is away does nothing, and stores are counted. The
material comes first, the generator after it.
"""

import argparse
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path

FIRST_DAY, LAST_DAY = date(1887, 3, 1), date(1888, 4, 30)
FEWEST_WORDS = 5000  # below this there is no room for twelve facts among ordinary days
WORDS_PER_ENTRY = 140


def _templates(text: str) -> list[str]:
    """The paragraphs of `text`, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]


def _stages(text: str) -> list[list[str]]:
    """The stages of a plot, divided by lines of two dashes; each is a choice of templates."""
    return [_templates(stage) for stage in text.split("\n--\n")]


# --- the company and its world ------------------------------------------------------------------------------------

JOBS = {  # job -> title before the surname, and whether she is a woman
    "captain": ("Captain ", False),
    "keeper": ("", False),
    "second": ("", False),
    "surveyor": ("Mr ", False),
    "doctor": ("Dr ", False),
    "cook": ("Mrs ", True),
    "carpenter": ("", False),
    "smith": ("", False),
    "coxswain": ("", False),
    "signalman": ("", False),
    "naturalist": ("Miss ", True),
    "storekeeper": ("", False),
}
DUTIES = {
    "captain": "commands the station and the expedition",
    "keeper": "principal keeper of the light",
    "second": "second keeper, who has the middle watch",
    "surveyor": "surveyor, sent to chart the island and its waters",
    "doctor": "surgeon, who came for his own lungs and stayed for our backs",
    "cook": "cook, and the only one of us who is never contradicted",
    "carpenter": "carpenter and cooper",
    "smith": "smith, with charge of the engine of the fog signal",
    "coxswain": "coxswain of the station boat",
    "signalman": "signalman, who minds the cable hut and the flags",
    "naturalist": "naturalist, who counts whatever flies, swims or clings",
    "storekeeper": "storekeeper, who counts whatever is eaten, burnt or nailed",
    "boy": "the boy, who does what is left over",
}
SURNAMES = [
    "Morrow", "Quillan", "Abney", "Thorold", "Vance", "Pell", "Garrick", "Stroud", "Hollin", "Yarrow", "Kemble",
    "Dacre", "Lorne", "Fenner", "Tregear", "Mostyn", "Oakes", "Ridley", "Sallow", "Carne", "Birtle", "Wick", "Ormond",
    "Haskett", "Lidgate", "Brade", "Cobbold", "Nance", "Penhale", "Rudd", "Tansley", "Warrender",
]  # fmt: skip
BOYS = [
    "young Jem", "young Ned", "young Davy", "young Kit", "young Perrin", "young Wat",
]  # fmt: skip
ISLANDS = [
    "Carrow", "Stennis Holm", "Great Ansel", "Farrant", "Ulverholm", "Brannock",
]  # fmt: skip
PLACES = [
    "the Anvil", "Gannet Steps", "Widow's Cove", "the North Landing", "the Sheepfold", "Cold Spring", "Tern Point",
    "the Long Sand", "the Old Chapel", "Signal Hill", "the Black Stack", "the Kelp House", "Nine Stones", "the Neck",
    "Seal Hole", "the Ropewalk", "Drummer's Ledge", "the Upper Pasture", "Cuddy Point", "the Broken Quay",
]  # fmt: skip
SHIPS = [
    "Marigold", "Patient Anne", "Kittiwake", "Good Intent", "Three Brothers", "Salamander", "Ploughboy", "Bright Water",
    "Constance", "Lady Maud", "Provider", "Thistle", "Eleanor Gray", "Fair Trader", "Wanderer", "Jane and Mary",
]  # fmt: skip
CARGOES = [
    "[twelve|fourteen|ten] sacks of flour", "two crates of window glass", "a keg of nails",
    "[six|eight] bolts of canvas", "[a ton|two tons] of coal in bags", "a barrel of salt pork",
    "a case of lamp chimneys", "forty fathoms of new rope", "a [crate|coop] of hens, much offended",
    "two drums of red lead", "a side of bacon wrapped in sacking", "a box of seed potatoes", "a cask of vinegar",
    "half a hundredweight of soap", "a bale of blankets", "a case of tinned milk", "a sack of onions",
    "[five|seven] planks of larch", "a barrel of tar", "a hamper of apples, half of them bruised", "a new grindstone",
    "a case of books with the damp already in it",
]  # fmt: skip

# --- weather ----------------------------------------------------------------------------------------------------------

WEATHER = {
    "calm": _templates("""
[Dead calm|Not a breath of wind|A flat calm] [since midnight|all the forenoon|until past three], and the sea [like
poured lead|so still that the gulls stood on their own reflections|as smooth as a plate].

The galley smoke [went straight up|stood like a mast|climbed without a bend] [all morning|till dusk], and [nobody
trusted it|we hung out every blanket we own|the flag hung like washing].

So [quiet|still] that we [heard the bell buoy off <place>|heard oars long before we saw the boat|could hear the seals
talking at <place>].

[Haze|A thin haze] on the water and no wind to [lift|move] it; the [horizon|mainland] [gone|drawn in pencil] until
[noon|evening].

A day without weather. [The keeper|<keeper>] says [there is always weather, it is only resting|such days are lent, not
given|one pays for them within the week].

[Glass|Mirror] weather. The [mainland hills|outer skerries] [hung upside down in the air|seemed near enough to hit with
a stone], which [<coxswain> calls a warning|<surveyor> calls refraction].

No wind, and [warmth in the stones of the south wall|the lamp smoke hanging where it was made|a long, oily swell from
some quarrel far away].

It was so calm that [<boy> floated a paper fleet off <place>|a feather lay all day on the step|we rowed where we would
have sailed].

[Windless|Calm] and [mild|soft for the season]. The [tide|swell] came in at <place> without [a sound|breaking].
"""),
    "breeze": _templates("""
[Light|Gentle|Baffling] airs from the <wind>, [enough to dry paint|freshening towards evening|dying at sunset], with
[broken|high, thin] cloud.

Wind <wind>, [moderate|a working breeze], the sea [dark blue and short|lively but civil|ruffled as far as one could
see].

A [clean|bright|fair] morning with the wind in the <wind>; [every rock|every stone of the tower] [looked new washed|cast
a hard shadow].

The <wind> breeze [carried the smell of the sheep|brought the sound of the surf at <place>|kept the midges off] and
[harmed nobody|made us all industrious].

[Sun and cloud by turns|Cloud shadows running over the water], wind <wind>, and [a good drying day|visibility to the
edge of the world|the far skerries standing up clear].

[Fair|Good] weather, wind <wind>. [One coat too many in the sun and one too few in the shade.|Even <storekeeper> was
seen out of doors.|The flag stood out as in a picture.]

The wind went [round|back] to the <wind> [in the night|at breakfast] and [has behaved since|brought the sky with it,
rinsed]. [Sails on the horizon.|Sea easy.]

Wind <wind> and [kindly|cool]; the [lark|smoke] up early, [dew on the rails|a little mist over <place> till nine], and
then [nothing to complain of|a sky like a plate].

Wind [settled|steady] in the <wind>. [Sea moderate.|A slight sea.] [The boat could be used all day.|Landing easy at
<place>.]
"""),
    "fresh": _templates("""
Fresh <wind> wind, [whitecaps to the horizon|spray over the landing at each third sea|the halyards rattling without a
pause].

It blew [hard|stiffly] from the <wind> [all day|from breakfast on], with [squalls|showers] that [came and went like
callers|passed before one could close a window].

A [restless|rough] day, wind <wind>; [hats were lost|the hens stayed in|two panes in the porch are gone], and the sea at
<place> [stood up brown|broke right over the steps].

The wind [got up|rose] with the sun, [as it has a right to in this month|as <coxswain> said it would], and by noon [no
boat could lie at <place>|the surf was white all round us].

A [blustering|loud] <wind> wind. [The tower door took two to open.|Every sentence out of doors had to be said twice.|The
wash-house lost its chimney cap again.]

Wind <wind>, [strong|very fresh], and [a cross sea off <place>|the tide running against it, so that the sound boiled].
[Gannets fishing in it as if it were a pond.|Foam in the yard.]

[Heavy swell|A long swell] from the <wind> and wind to match. [The boat stayed on its chocks.|No landing.]

[Cold|Rough], with a <wind> wind that [found every keyhole|had salt in it up to the gallery|leaned on the doors].
"""),
    "gale": _templates("""
A [whole|full|hard] gale from the <wind> [since the middle watch|all night and most of the day]. The tower [hums in it
like a bottle|shakes at the larger seas|takes it as a horse takes flies].

[Storm|Gale] from the <wind>. Seas [over the boathouse roof|as high as the oil store|green over <place>], and [a plank|a
length of fence|the hen-house door] [gone|carried off] before [light|anyone could reach it].

We could not [stand|hold a lantern] in the yard. Wind <wind>, [shrieking|never less than a scream], with [rain laid
flat|foam flying over the dwelling like snow].

[Nobody went out|Nobody left the tower side] except on a line. The <wind> gale [rose|grew] until [dusk|midnight] and
then [thought better of it|held where it was].

The gale [came on|broke] [at supper|an hour before light], from the <wind>, [without a word of notice|as the glass had
promised]. [All shutters up.|Two men at every rope.|We ate with the plates in our laps.]

It is hard to write: the [table|lamp] [shakes|swings]. Wind <wind>. [A sea came over the gallery rail.|The landing steps
are gone again.|The noise has stopped being a noise.]

The [lantern panes|gallery windows] were [white with salt|streaming], the wind <wind> and [of a kind to count slates
by|beyond any number in the book].
"""),
    "fog": _templates("""
[Fog|Thick fog] [from the first light|since four in the morning], so that the tower [had no top|ended at the second
window] and the fog signal [was never silent|ran for [eleven|fourteen|nine|sixteen] hours].

The fog [came over <place>|rolled in] like [wool|a wall falling slowly], and [voices|footsteps] [seemed to come from the
wrong side|arrived before their owners].

[White|Grey] all day. One could see [the length of an oar|as far as the pump|one's own boots, with good will].

Fog, [wet enough to drink|dripping from every rope], wind nothing. [A ship's bell|A horn] was heard off <place> [about
ten|at dusk], and [went away again|we answered it until it passed].

[Another|A] day inside a [pearl|pillow]. The fog [thinned at noon, to tease us|lay on the water only, so that from the
gallery we sailed above it].

Fog again; [<A> met a goat at the corner and begged its pardon|a boat went out to its mooring with a line paid out from
the shore|the sun came through once like a worn coin].

No [horizon|sea|sky] to report, only fog. [The goats came home on their own.|Three of us walked past the door.]
"""),
    "rain": _templates("""
Rain [from end to end of the day|without a pause|in rods], wind <wind>. The [gutters|water butts] [ran over|sang] and
the path to <place> [became a brook|is mud to the ankle].

A [grey|sodden|wet] day with wind <wind>; [small rain|drizzle] that [wets one by persuasion|got into the flour bin and
all tempers|nobody noticed until they were soaked].

[Showers|Cold showers] out of the <wind>, [each with a rainbow to excuse it|with half an hour of sun between].

It rained. [<storekeeper> put out every pan he owns under the leaks.|The roof of the dwelling was found to leak in
[three|four|two] new places.|Everything that was dry is now only less wet.]

[Wet|Rain] and [wetter|more rain], wind <wind>. [The blotting paper is limp.|Matches will not strike.|The stairs sweat.]
[<cook> has the line up in the kitchen.|Boots in a row before the stove.]

Rain till [two|four], then [a yellow light under the cloud|a sky all to pieces], wind <wind>, and [steam off the
roofs|every path running].

[Low cloud|Cloud down to the gallery] and steady rain, the sea [pocked|flattened] by it, wind <wind> and light.
"""),
    "frost": _templates("""
Hard frost. [The pump had to be thawed with a kettle.|Ice in the fire buckets.|The rope at the landing was as stiff as a
rail.] Wind <wind>, [thin as a knife|little of it, but enough].

[Snow|Snow showers] from the <wind>, lying [to the depth of a hand|in the lee of every wall]; <place> [looked like a
made bed|was white down to the weed].

A [glittering|clear], bitter day. [Breath|One's breath] [froze|hung] in the lantern gallery, and the [brass burned the
fingers|lashings had to be beaten before they would untie].

[Sleet|Hail] in the morning, [stars and frost|a hard, clear sky] after dark, wind <wind>. [The hens laid nothing.|The
hens were moved to the wash-house.]

[Bitter|Cold], the wind <wind>. [Milk froze in the jug.|Beards white at the pump.|Spray froze on the landing and had to
be salted.] [A low red sun.|A ring round the moon.]

[Powder|A dust] of snow [in the night|before breakfast], with the prints of [a hare|the goats|one man, going out to
<place> and back] [for us to read|across it]. Wind <wind>.

Frost [on the inside of the panes|an inch long on the rail]. The wind stayed <wind>, and we stayed by the stove [as far
as duty allowed|in turns].
"""),
}
INSTRUMENTS = [
    "Glass <glass>, thermometer <temp>.", "The glass stood at <glass> and the thermometer at <temp>.",
    "At noon: glass <glass>, <temp> degrees.", "Barometer <glass>, <temp> in the [shade|porch].",
    "<temp> degrees at the door, glass <glass> and [falling|rising|making up its mind].", "At sunrise <temp> degrees.",
    "Glass <glass>, which [<captain> tapped twice|is what one would expect|nobody liked|may mean anything].",
    "The glass says <glass>, <keeper>'s knee says [otherwise|the same].", "", "", "", "",
]  # fmt: skip

# --- single days ------------------------------------------------------------------------------------------------------

LIGHT = _templates("""
Fog or no fog, <keeper> goes up at [one|two|three] to listen to the machinery. Tonight he [took <A> with him, for
company|stayed till it was time to come down for breakfast].

<second> read [forty|sixty|thirty] pages by the light of the lamp itself, which is [forbidden|said to spoil the eyes].
He [told me so that I might write it|says that one page of it is worth two elsewhere].

The new oil [smokes|burns with a whiter flame]. <keeper> and <storekeeper> [stood over a cask of it like two heirs|wrote
out a complaint, and tore it up].

<A> asked <keeper> how many have looked at the light tonight. [He said: "All of them, once."|He took the question away
with him, and came back with it at breakfast: "More than will say so."]

Found the lantern door [open|unlatched] at dawn, and a gull [on the gallery rail, looking in|asleep against the warm
glass]. <second> [saw it off|let it be].

The curtains of the lens were drawn by [sunrise|six], the brass done by seven; <second> asleep by [eight, in his
boots|eight, in the middle of a word].

A thumbprint on the great lens, [at the height of a boy|about the size of the storekeeper's]. <keeper> [asked nobody,
and polished for an hour|called it a forgery, and polished].

Weighed the clockwork's weight, out of curiosity: [a hundredweight and a half|as much as <A> and a hen]. It goes down
the tower each night as quietly as [a thought|a cat].

<keeper> has a cold and will not give up his watch. [<doctor> climbed up after him with a bottle.|One could hear him
sneeze in the yard, on the flash.]

<second> holds that the lens hums on [cold|clear] nights. <A> [climbed up to hear it, and came down unsure|says it is
the stairs in one's ears|heard it too, in the key of F].

The revolution of the lens was timed [against the chronometer|by three watches]: [a second slow in the minute|true to
the half second]. <keeper> [will know the reason|allowed himself a biscuit].

<keeper> and <second> changed watches at midnight as always, with [the same <few> words|a nod]. [I have never heard them
quarrel.|One would think it a sacrament.]

Lit at [sunset|dusk], put out at sunrise, [no fault|a clear flame all night]. <keeper> had the [first|morning] watch and
reports [[seven|four|nine|five] sail passing, all outside the reef|nothing but stars|one steamer, going south in a
hurry].

<second> changed the wicks at [midnight|two] and found [the third one scorched|them better than he feared|soot where
there should be none]; he has [written a note about the oil|blamed the oil|trimmed them all a hair shorter].

The clockwork that turns the lens [lost|gained] [a minute|two minutes|half a minute] in the night. <keeper> [listened to
it for an hour as one listens to a chest|oiled it and said nothing|has hung another pound on the weight].

We burned [less|more] oil than [the tables allow|last week]: <oil> casks remain, by <storekeeper>'s chalk marks and my
own count.

[A bird|A woodcock|A flight of small birds|A duck] struck the lantern in the middle watch. <second> [swept the gallery
by first light|gave it to the cook|carried the survivors down in his cap].

<A> stood a watch in place of <second>, who [had earned a night's sleep|had cut his thumb|had a head like a bucket|had
letters to write], and came down [solemn|silent] from it. [It is a different world up there at three.|Nobody jokes about
the stairs after that.]

Cleaned the panes inside and out, [<A> on the ladder and <B> holding it|a forenoon's work for two], [salt as thick as
paint|and saw the mainland for our pains].

<keeper> counts the stairs each night. Tonight he found [as many as ever|one more than usual], he says, [which is his
way of being tired|and one of them was [<boy>|a dog|a bucket]].

The light was [seen|reported] from [the <ship>|a herring boat] at [eighteen|nineteen|twenty|twenty-one] miles, as [her
master|a man on board] told the coxswain. <keeper> [asked twice|pretended not to be pleased].

Lamp in good order. Polished the [reflectors|brass] until <second> could [shave by them|see his mother in them], as he
puts it.

At [ten|eleven|one] in the night the flame [jumped|sank] for no reason that <keeper> could find. He [sat by it till
morning|changed the cask], and it [burned like a picture|gave no more trouble|did it again, once, for spite].

<boy> was allowed to light the lamp this evening. He [held his breath throughout, and went to bed two inches
taller|asked whether anyone would know, and was told that a whole coast would].
""")
FOOD = _templates("""
<cook> gave <A> the heel of the loaf, [which is a mark of favour here|and the rest of us looked at our plates]. [We do
not know what he has done.|He had carried her coal.]

<A> undertook to cook, <cook> having a headache. [It was eaten.|We had bread and cheese later, one by one.] <B> [asked
for the name of the dish|has a headache too].

Rhubarb [again|with everything]. <A> [has asked to be relieved of it|found a stick of it in his boot].

A [cheese|ham] was found at the back of the store, [older than our time here|with a date nobody would read aloud].
<doctor> [cut in from the other side|pronounced it alive]; <A> ate it, [and is well|and says so hourly].

Fried bread and [bacon|the last of the bacon]. <A> [sang at table|was a better man till noon]. [It is not much to be
happy about, but it is hot.|<cook> pretended to count the slices.]

<cook> has had words with the [butcher by letter|stove|goats], and [won|has not finished]. Supper was [late|cold
mutton|short] on that account.

<A> maintains that he can tell [well water from rain water|one potato from another] with his eyes shut. [<B> tied the
cloth.|He was right seven times in ten.] [It passed an hour.|He had the vinegar last.]

Pancakes. <boy> ate [<few>|more than he admits], <A> [tossed his onto the lamp|kept count for him]. <cook> [enjoyed it,
we think|says never again].

Salt [cod|beef], soaked [two days|overnight] and still [resisting|salt]. <A> [ate it with his eyes closed|asked what it
had been in life], <B> [asked for water|asked for more, to be contrary].

<boy> was sent for [a striped ladder|the long weight|a bucket of steam] from the kitchen, and <cook> [gave him a bun and
told him to stay away an hour|sent him back with a worse errand for <A>].

[Soup|Stew] of uncertain origin. <A> [identified a carrot|asked no questions]; <cook> says [a pot is like a government:
one should not look in|that it is what there was].

<cook> has her [birthday face|baking apron] on, and [will not say why|<storekeeper> gave up a pound of butter without a
form]. [Currant bread at four.|It proved to be for <A>, who had forgotten his own birthday.]

Dinner was [late|cold], the stove having [sulked|been put out by a puff down the flue], and we ate [in coats|standing].
<A> [told us of a dinner in a club|said grace twice to pass the time|warmed his hands at the mustard].

The hens [lay again|have struck]: <eggs> today. <A> [reads to them|has put a china one in to shame them], with what
effect <storekeeper> [is computing|declines to say].

<cook> made [barley broth|a pie of rabbit and bacon|fish cakes|a suet pudding|pease soup|dumplings], and [there was
silence at the table, the good kind|<A> asked for more before anyone had finished|even <B> forgot to complain].

[Herring|Cod|Coalfish|Mackerel] for the [third|fourth|second] day. <A> [has begun to address his plate as an old
acquaintance|says grace with a certain stress]; <cook> says [that the sea is not obliged to vary|hunger is her best
sauce and she has plenty].

The [bread|morning's bread] [failed|would not rise], and <cook> [blamed the yeast|blamed the wind|looked at the stove
until it was ashamed]. We ate [biscuit|porridge] and [praised it|kept our heads low].

Eggs today: <eggs>. <storekeeper> entered them [as if they were sovereigns|one by one], and <boy> [ate one raw for a
bet|dropped only one].

<cook> has [found the cinnamon|opened the last tin of treacle|baked an apple tart out of dried rings], and [the whole
house smelt of it by noon|three people found business in the kitchen].

A discussion at dinner about [whether gulls can be eaten|the proper thickness of gravy|salt in porridge], in which <A>
[spoke from experience|spoke at length|took both sides] and <B> [only shuddered|left the table laughing].

[Tea is short|Sugar is short|The coffee is mostly acorns now]. <storekeeper> [measures it with a thimble|keeps the key
on a string round his neck], and [<A> calls him a tyrant|nobody blames him aloud].

<cook> let nobody into the kitchen [after four|all afternoon]. The reason proved to be [a seed cake|gingerbread|a goose,
got from a passing boat for two pounds of nails].

The [salt pork|pork in the new cask] is [sound|doubtful]. <doctor> [smelt it, and wrote something down|tried it on
himself first], <cook> [put in more pepper|boiled it twice].

<A> has been put off [cheese|butter] [for his sins|by order of the doctor|until the next ship], and [watches the rest of
us eat it|bears it like a [saint|prisoner]].
""")
EVENING = _templates("""
<boy> asked for a story and <A> gave him [the flood|one about a bear|the siege of somewhere], with [all of us listening
and pretending not to|the parts all taken by different hats].

<signalman> taught <A> the code with a [spoon on a cup|pencil on the stove]. By ten they were [being rude to one another
in it|asking after each other's mothers, very slowly].

<A> and <B> [arm-wrestled|tossed buttons at a mug] for the [washing-up|early watch]. <A> [lost, and dried as well|won,
and helped all the same].

The stove [drew well|roared], the wind [was elsewhere|kept off], and <A> said that [kings lived worse|he could not think
of one thing he wanted]. <B> could think of [several|tobacco].

<doctor> played patience until [it came out|the cards stuck], with <A> [behind him, suffering|pointing].

A spelling match, <captain> giving out the words. <A> fell at "[rhododendron|sieve|gauge]", <B> at
"[parallel|yacht|necessary]"; <naturalist> [won, and took the biscuit|was not allowed to win again].

<carpenter> [whittled|sanded something], <smith> [slept like a felled tree|oiled his concertina], <A> [looked into the
fire|wrote a verse about both of them, which scans].

<A> has [a new tune|one tune], and [practised it|played it to us] for two hours on [the whistle|a saw]. <B> [went out to
look at the rain|now knows it too, and cannot stop].

We guessed one another's weights, and [used the store scales|settled it with the crane]. <A> was [out by a
stone|flattered], <B> [not to be consoled|exact].

<captain> brought out the [atlas|old chart of the bay], and we each showed [where we were born|the farthest place we had
been]. <A> went [off the edge of the page|farther than anyone had supposed].

<A> cut <B>'s hair [on the porch|by lamplight]. [It will grow.|<B> has asked for the mirror to be put away.] <C> [is
next|has withdrawn his name].

<surveyor> and <A> [worked at a puzzle of nine coins, and went to bed wiser and not on terms|measured the mess-room
floor, and found it four inches out of true].

<A> read us a letter from [his aunt|a cousin in the tropics|his old master] by request. We [know her dog by now|all feel
that we have been there].

A quiet game of [1:spillikins|whist], until <A> [1:sneezed|was found to be holding five aces]. <B> [1:says that it was
deliberate|wishes to be dealt no more cards by him].

<smith> [bent a poker for a wager|lifted <boy> on a shovel], and <doctor> [told him what he would feel at fifty|felt his
arm with professional envy].

<A> [sat up with the accounts of his life|wrote and burned three letters]. <B> [made him cocoa|knew better than to ask].

In the evening <A> [mended a sail|darned stockings|carved a spoon] by the stove, <B> [read|slept with his boots on|wrote
a letter that nobody will collect for weeks], and [the clock did the talking|nothing was said that needed saying].

<A> and <B> played [cribbage|dominoes|chess] until [ten|the lamp wanted filling]. <A> won, and [was not allowed to
forget how|said it was luck, which made it worse].

[Music tonight|We had music]: <smith> with the concertina, <A> with a [comb and paper|tin plate and two spoons].
[<captain> beat time with his pipe.|The seals at <place> are said to have answered.]

<coxswain> told the story of [the drowned fiddler|the ship that sailed past twice|the bishop and the lobster|his uncle
and the whale] again. It has [gained a storm|lost a mast|gained a widow] since the last time, and is the better for it.

<A> asked <B> what [he missed|one missed] most. ["Trees,"|"A street with a corner to it,"|"Being annoyed by
strangers,"|"The sound of a cart,"] said <B>, without [looking up|a moment's thought].

A long argument about [whether fish sleep|how far a voice carries over water|the best road between two towns that
neither has seen for ten years], <A> against <B>, with <C> as [judge|ballast]. [No verdict.|Adjourned.]

I read the week's entries over and [struck out an adjective|found that I had spelt [barometer|parallax] in two ways|was
struck by how little they say of the noise].

<boy> had his lesson: [long division|the capes of the north coast|the kings in order], with <signalman> to teach. [He is
quick when it concerns distances.|They were both glad when it ended.]

Early to bed, all but <A>, who [walked up and down the yard with a cigar|said that the moon was wasted on sleepers|had a
tooth to nurse].

<naturalist> showed us [a limpet's tongue|the eye of a squid|the feather of a petrel|plankton] under her lens. <A>
[would not give up his turn|said that it put him in mind of a relation].

<captain> read the regulations aloud, as he does [each quarter|when the mood of the house is low]. At the paragraph on
[cheerfulness|dogs|the airing of bedding] <A> [was seen to smile|coughed for some time].

We drew lots for [the last of the tobacco|the chair by the stove|the newspaper, six weeks old], and <A> [won, and gave
it to <B>|won, and was ashamed|lost, and took it well].

The talk turned to [ghosts|omens|dreams|the war that may or may not have begun]. <A> believes in [1:nothing of it|all of
it|half]; <B> said that [1:he had a cousin who knew better|one should not say so after dark|half would do for most
purposes].
""")
FAIR_WORK = _templates("""
<A> and <B> [drew the nets|lifted the creels] off <place>: [a score of crabs|one lobster, and that one angry|weed,
mostly]. <coxswain> [was civil about it|says that it is the moon].

The [yard|path] was [swept|gravelled], <A> raking and <boy> [carting|in the barrow]. <captain> walked over it [once,
with approval|and left footprints, which were raked].

<smith> burned [charcoal|lime] at <place> all day under turf; <A> [sat by it with a bucket|came home with no eyebrows to
speak of].

<carpenter> and <A> [set posts|hung a gate] at <place>, [<few> of them|against the goats]. The goats [watched|had it
open by evening].

The flagstaff was [lowered|scraped], [painted|slushed], and raised again, [without loss|with <A> holding the wrong
rope]. <signalman> [breathed again at noon|has put up every flag, to dry].

<A> [patched|caulked] the [dinghy|punt], tried it off the landing, and [came back swimming|came back rowing, to his own
surprise]. <B> [had the towel ready|had bet on it].

Whetted every [scythe|knife|axe] on the station at the new stone, <A> turning and <B> [holding|cutting himself]. [The
cook's drawer will surprise her.|One could shave with the axe, and someone did.]

<storekeeper> [sorted rope into three heaps|numbered the barrels]: good, [doubtful|fair], and [<A>'s|for the goats]. [It
took all day.|The third was largest.]

We [moved|turned] the midden, <A> and <B> with scarves over their noses. <naturalist> [came and sifted it|says that it
is four hundred years old at the bottom]. [Nobody sat near them at supper.|A bone comb was found.]

<doctor> vaccinated [the boat's crew|all hands], <A> [first, as an example|last, with an excuse each time]. [Sore arms
at the oars.|<boy> did not cry, as he informed us.]

<coxswain> [drilled|exercised] the boat's crew: <A> at stroke, <B> in the bow. [They keep time like two clocks.|Only one
oar went over the side.]

<carpenter> [shaped a new oar|made a hatch for the well|put a floor in the hen-house], and <A> [swept shavings and
quoted scripture|held the other end].

<signalman> and <boy> [carried wire to <place>|greased the signal halyards], with [a stop for crab apples|much talk of
how a spark travels].

<doctor> [walked to <place> for his lungs, and returned breathing like a forge|took the boat to <place> to sketch, and
brought home a drawing that might be anything].

<smith> shod the [handcart|sledge] with iron, [and all the island heard it go by|and <A> was run over by it, gently].

<A> and <B> [rolled|walked] [a boulder|four barrels] from <place> to the yard, with [levers and language|the whole house
at the windows]. [It looks as if it had always been there.|The reason is the captain's secret.]

<storekeeper> [spread the biscuit in the sun, and kept off the gulls with a flag|limed the cellar, shut himself in, and
had to be let out].

Beacon on <place> [rebuilt|painted], [white over black|nine feet of it], by <A> and <B>, [roped like goats|in a single
tide]. <surveyor> [will use it as a mark|waved from three miles off].

<A> and <B> [tarred|painted|scraped] the [boathouse doors|rails of the landing|flagstaff|north wall] [between tides|from
breakfast till dusk], and came in [the colour of their work|smelling of it].

All hands to [carry coal|carry water|shift stone] from <place>: [forty|thirty|fifty] [bags|buckets|loads] by
[noon|four], and <A> [carried more than his share and mentioned it|sang, to our cost].

<coxswain> took the boat round to <place> with <A> and <B>, to [fetch driftwood|look at the moorings|set creels|try the
new oars]. Back by [dusk|five], [wet and pleased|with little to show].

[Laid|Relaid] <few> yards of the path to <place>. <A> [chose the stones as if for a church|says a path is only a promise
until it has drains].

<carpenter> [planed|hung|trimmed] the door of the [oil store|wash-house|cable hut], which has [stuck since we came|let
in the wind by a hand's breadth]. It now [shuts like a box|shuts, if one is firm].

Washing day. [Sixteen|Nineteen|Twenty-two] shirts on the line at <place>, and <A>'s [drawers|nightshirt] [lost to the
sea|found on the flagstaff, by no accident].

<smith> [drew|forged|straightened] [hinges for the store|a new boathook|three gate pins|the davit pins], with <boy> at
the bellows; [one could hear the hammer at <place>|sparks were allowed, once].

<signalman> [ran the flags up and down for practice|sent test signals along the cable|re-laid the wire at the hut], and
[got the mainland at last|had no answer until three|reports the line clear].

<A> caught [a cod as long as <B>'s arm|<few> pollack|a conger that took two men to argue with|a bucket of crabs] off
<place>, and <cook> made [a dinner of it|it last for two dinners].

<A> [whitewashed|limewashed] the [dwelling|passage|hen-house] and [a good part of himself|one of the goats, by mistake],
while <B> [gave advice|held the bucket].

<naturalist> went to <place> for the day with [a net and a sandwich|her notebook], and came back with [forty names of
weeds|a skull she cannot place|wet boots and a new beetle].

Aired the [bedding|sails|books], which had [begun to grow a beard|taken the damp]. <storekeeper> counted them out and
in, and is [one short|one over, which troubles him more].

<captain> inspected [the boat|the quarters|the fog engine|the fire buckets] and found [little to say|dust on a lintel,
which he showed us|it good]. [He then went fishing.|There was relief.]

<A> cleared the drain by <place>, and found in it [a spoon|half a clay pipe|a coin that nobody can read|an eel]. [<boy>
has it now.|It is on the mantelshelf.]
""")
FOUL_WORK = _templates("""
<A> and <B> [melted candle ends|boiled old rope for tar|recovered the mess chairs], and [the smell got into the
bread|the kitchen was wanted back].

<captain> gave a lecture on [the barometer|knots|the law of salvage], attendance [voluntary|taken]. <A> asked [a good
question|whether it would be long].

Every [lamp|lantern] in the house [cleaned and filled|re-wicked], forty of them, by <A> and <boy>. [They burn as if it
were Christmas.|One was found to have a mouse in it, at home.]

<smith> let <A> try the [forge|anvil], and the result is [a hook, he says|hanging in the passage for all to see]. <B>
[asked what it was for|hangs his hat on it].

The [long ladder|fire drill] was [mended|held in the passage], <A> [directing|as the person overcome by smoke]. <B>
[carried the wrong end|dropped him].

<naturalist> [mounted|labelled] her [weeds|moths|crabs] on the mess table. We ate [round them|elsewhere]. <A> [learnt a
Latin name by mistake|will not look at the third tray].

<A> wrote [labels|a letter to the Board about the roof], <B> [dictated|found the spelling]. [It is strong, but
fair.|They were pleased with it, and then went and stood in the rain to look at the roof.]

<carpenter> made [a coffin for the clock|a case for the sextant|shelves in the passage] out of [an old hatch|driftwood],
<A> [sanding|reading him the war news of last spring].

<storekeeper> [let us choose a pair of boots each|gave out the winter socks], and <A> [chose two left ones|has put his
away for best]. [Signed for in triplicate.|One feels provided for.]

A leak in the [passage|west bedroom] has [found <A>'s pillow|moved a foot to the left]. <B> [drilled a hole to let it
through|put a basin under it, and now cannot sleep for the note].

<A> [1:varnished the barometer case|tuned the harmonium|dusted the chart press], and <B> [1:told him how|played what he
could remember with two fingers|sneezed].

<signalman> [sat in the cable hut with the key|tried the line each hour]: [dead|faint], [and then a price of pigs, from
nowhere|so that we had the island to ourselves].

<boy> and <A> made [candles|brooms|fishing flies] in the wash-house, [forty of them|all day], and [sang|learnt the names
of the winds].

<cook> [turned out the dresser|had the stove pipe down], and [nobody was safe|<A> was given a pinafore and a brush].

<A> [bottomed a chair|sewed a button on each garment in the house|ground a lens for the boy's telescope], and <B> [kept
the fire and the conversation going|gave him the benefit of his opinion].

Read the [gauge|glass] every hour, by order. <A> [1:had the odd hours|made a curve of it], <B> [1:the even ones|said
that it would rain whether observed or not].

<coxswain> [overhauled the blocks|sewed new beckets on the oars|wormed, parcelled and served forty feet of rope], and
told <boy> [what each had carried|why one never sits on a coil].

Kept indoors. <A> [spliced rope|picked oakum|ground tools] in the passage, <B> [sewed a tarpaulin|sorted bolts by
size|greased every boot in the house].

Under cover we [scraped the spare buoy|went through the stores shelf by shelf|put new soles on seven boots], and <A>
[discovered a jar of plums|found mice in the candle box|was of great use by going to sleep].

<carpenter> [shored the boathouse door|nailed battens over the west windows|caulked the sill], with <A> to hold the
lantern, [and both were soaked to the skin|and it held].

<surveyor> [reduced his angles|inked the sheet|recomputed the week's levels] at the long table, [not to be spoken
to|humming], and <A> [sharpened pencils for him|was sent away twice].

The [boat|station boat] was [hauled ten yards higher|lashed with a third rope], five of us on the fall and <coxswain>
[swearing in two languages|calling the time].

<smith> and <boy> [kept up steam for the fog engine|nursed the engine through the night|took the whistle apart and
cleaned it], and [came to breakfast black as crows|fell asleep over their plates].

A [slate|shutter|chimney pot] came down in the [forenoon|night]. <A> [1:wanted to go up at once|was for waiting], <B>
[1:sat on him|fetched the ladder], and it was [1:left until morning|put right between two squalls].

<doctor> [lanced a boil|pulled a tooth|bound a sprained wrist|took out a splinter], the patient being <A>, who [made no
sound that can be written|says the gale was louder].

<storekeeper> [re-tied every sack|made a list of lists|weighed the candles], since there was [nothing else to count|no
going out].

<A> taught <B> the [bowline on a bight|Turk's head|long splice], [for the fourth time|and was taught a better one in
return].

We [baled the cellar|stopped a leak over the chart table|moved the beds from the west wall]. <A> [laughed, which
helped|said that he had paid for less water at a spa].
""")
NATURE = {
    "spring": _templates("""
The [terns|puffins|kittiwakes] are back at <place>, [arguing about the same ledges as last year, says <naturalist>|<few>
hundred by <naturalist>'s count].

[First primroses|First thrift|Scurvy grass in flower] on the bank by <place>. <A> [brought a bunch in and denied it|put
one in his cap].

A [lamb|kid] was born [at <place>|in the night], [on its feet within the hour|the wrong way round, with <doctor>
assisting under protest].

Eider duck on the water, [crooning like aunts|in pairs]. <naturalist> [lay on her face for three hours to watch
them|forbids anyone to walk by <place>].

The days draw out: [one can read in the gallery until seven|the lamp is lit later by two minutes each night].

Planted [cabbages|beans|seed potatoes] in the walled patch. <A> [has put up a scarecrow that looks like <B>|says that
nothing will come, and waters it].
"""),
    "summer": _templates("""
A [moth|cloud of moths] in the lantern. <keeper> [opens the vent and talks them out|found forty on the floor at dawn],
and <naturalist> [1:has asked for|was up there with a net and] [1:the rest|her dressing gown].

Hardly any night. <keeper> lights the lamp [for form's sake|and one can barely see it against the sky].

[Porpoises|A school of porpoises|A basking shark|Two whales] off <place> [this morning|at the turn of the tide]; <boy>
[ran for everyone|counted them thrice, with three results].

The young [guillemots|razorbills] left the ledges at <place>, [jumping like boys off a quay|with their fathers shouting
from below].

Cut [turf|bracken|hay] on the slope above <place>, <A> [with the better scythe|resting often], <B> raking. [A day's work
that shows.|Backs will tell tomorrow.]

So warm that [<A> slept on the roof of the store|the tar ran on the boathouse|<cook> moved her chair into the yard].

Midges. [<A> wears a bag on his head.|Nobody was civil after six.] <naturalist> [has identified them, which is no
help|says they are only hungry].

<A>, <B> and <C> bathed at <place>. [It was brief.|The word for it, said <B>, was surgical.]
"""),
    "autumn": _templates("""
A shooting star, seen by <A> from the gallery, [so bright that it threw a shadow|that broke in two]. <keeper>, with his
back to it, was [trimming a wick|winding the clock].

[Geese|Long skeins of geese] going over [all day|in the dusk], high up, [with a noise like a far-off fair|talking].

The [bracken|grass] at <place> has turned, and [the goats have come down to the walls|spiders sling their webs across
the path each night].

[Fieldfares|Redwings|Goldcrests] in thousands at the lantern; <naturalist> and <second> [sat up and counted|opened the
gallery door, and had <few> on the stairs].

The [seal pups|first white pups] are born at <place>. [<A> was bitten for his sympathy.|One hears them at night.]

We dug [the first|a good row of|a basket of] [potatoes|turnips|carrots] from the patch behind <place>. [Small, but our
own.|<cook> boiled them in their jackets, with an air of ceremony.]

Gathered [mushrooms|brambles|driftwood] above <place>, [enough for all|two pails], and <doctor> [looked over each
one|tasted first, like a king's servant].

The nights are [long|drawing in]. <keeper> [has had the spare lamp out|brought the winter wicks up].
"""),
    "winter": _templates("""
[Ten|Fourteen|Twenty] [snow buntings|purple sandpipers|turnstones] at <place>, [as tame as hens|feeding at the very
door].

The sun was up for [barely seven hours|less time than it takes to do the washing], and [behind cloud for six of them|low
enough to look one in the eye].

[Green lights|Northern lights] in the [first|middle] watch. <second> [woke us all|called down the stairs], and for once
[nobody cursed him|even <A> stayed out in the cold].

A [robin|wren] has moved into the [wash-house|porch]. <cook> [leaves the door on the jar for it|calls it the lodger].

The goats are [in the store|living in the kelp shed] and [eat labels|have eaten <A>'s hat].

[Stars|A night of stars] such as [I have seen only here|make one lower the voice]. <surveyor> [took <few> altitudes|shot
the pole for latitude], with [numb fingers|<A> to hold the lantern].
"""),
}
SURVEY = _templates("""
<surveyor> and <A> searched for the mark of the old survey at <place>, [with a bar and a description forty years old|on
hands and knees], and found [it under a goat|a nail].

A day of sights from <place>: [sun at noon|six stars], worked twice by <surveyor>. We lie [a quarter of a mile|four
hundred yards] west of where the Board believes. [It has been told.|<A> claims to feel the difference.]

<surveyor> has named the rock off <place> after <A>, [who is moved|since it is bare on top]. [<B> wants a shoal.|It is
in pencil, so far.]

The chain was compared with the standard: [a third of an inch long|stretched]. <surveyor> [went pale and reached for
last month's book|took it as one takes bad news of a friend].

<surveyor>, <A> and <boy> built a cairn of [five|six] feet on the height above <place>, [to be seen from the sea|before
dinner]. [<boy> put a button in it for luck.|It leans, as <A> does.]

Currents off <place>, by a bottle on a string: [a knot and a half|two knots] [north|west] at half tide. <A> [timed
it|lost the bottle], <coxswain> [nodded|rowed].

<surveyor> has a quarrel with his [own figures|last month's work]: the line from <place> to <place2> [is four feet
longer than it was|will not close]. [He measured it again alone.|<A> was sent for the other chain.]

<coxswain> and <surveyor> ran lines of soundings across the mouth of the bay, [sixty|forty-four|seventy] casts before
[lunch|the tide turned]. [The lead brought up a live crab.|Least water two fathoms, on what nobody knew was there.]

A [flag|white flag] was set up at <place> for a mark, and [taken down by goats|the wind had it by noon]. <A> [stood in
its place for an hour with arms raised|nailed up a shirt].

<surveyor> explained the [convergence of meridians|sag of a chain] to <A>, with an orange. [<A> ate the meridians.|The
chart is the clearer for it, at least.]

<surveyor> carried the chain from <place> towards <place2>, <A> [leading|at the far end], [six|nine|seven|eight] chains
before [noon|the light failed]. [The ground falls away worse than it looks.|One arrow lost.]

Station number <stations> fixed on [a boulder|the turf|a rock] above <place>. <surveyor> [cut the mark himself|built a
cairn on it], and [has closed his triangle within a hand's breadth|is out by more than he will say].

Soundings off <place>: [eleven|fourteen|nineteen|twenty-three|thirty-one] fathoms, [sand and shell|black mud|rock]. <A>
[hove the lead|kept the book], <coxswain> [held the boat on her marks|said he could have told us so].

<surveyor> waited [three hours|all day] for [the haze to lift|a sight of the mainland peak], and [got it for a
minute|got nothing but a cold].

The [theodolite|level] was carried to <place> [on <A>'s back|like an invalid]. [Two rounds of angles.|A full round, and
a second for luck.]

Tide pole at <place> read each half hour by <A> and <boy>, who [made a song of the figures|quarrelled about a tenth].
Range [nine|ten|eleven|twelve] feet [two|four|seven] inches.

The sheet now shows <stations> stations. <captain> looked long at [it|the white part of it] and asked [whether it would
be done by spring|who had named <place>].

A stone wall that is on no map runs from <place> [down to the sea|for a furlong]. <surveyor> [is delighted|has drawn it
in red]; <coxswain> says [that his grandfather knew it|a map is the last to hear].

<surveyor> and <A> levelled from the [doorstep|tide pole] to <place>: [one hundred and
twelve|ninety-six|eighty-four|seventy-one] feet. [<A> had bet on less.|It looks more in a wind.]
""")
PASSING = _templates("""
A whaler, [stained and slow|with her boats hanging], the first <coxswain> has seen in [ten|nine] years. He [took off his
cap|told <boy> what the smell was].

The <ship>, homeward bound, [sent us a sack of oranges by line|threw over a bundle of papers in oilskin]. <A> [read us
the advertisements|gave them all away, and kept the sack].

<boy> counted <few> sail before breakfast and <few> after. [He has a book for them.|He knows some by their patches.] The
<ship> was [among them|not].

A rowing boat with [two men and a cow|a wedding party, lost], bound for the next island, passed [under|close by]
<place>. [We gave them a bearing.|<A> gave them his opinion.]

A [grey|naval] cutter came up, [looked at us|exercised a gun], and went. <signalman> [asked her number|dipped and was
not answered]. <A> says [spies|manners are not what they were].

The steamer <ship> blew [three blasts|once] for <place> in clear weather, [from habit, it may be|and a man on her bridge
waved his hat]. <A> waved [a tablecloth|back] until she was hull down.

A [Norwegian|Danish] [barque|timber ship] stood by to ask [the time|whether this was an island], and [traded a plank for
a loaf|cheered us, for some reason].

[Two|Three] [smacks|luggers] sheltered under <place>. Their people came up for [water|a warm], and <A> [found a
cousin|sold them a kite].

The <ship> went by with [a band playing|every sail set|a jury rig], and <boy> [ran along the shore with her as far as
<place>|saluted until she was small].

At night the lights of a [liner|great steamer], [like a street moving|row on row]. <A> said: ["They are dancing
there."|"And not one of them is looking at us."]

The [brig|schooner|ketch] <ship> passed [close|a mile out], bound [north|south|home], and [dipped her flag|asked her
longitude by signal]. <signalman> [answered within the minute|was at his dinner, and ran].

[Herring boats|A fleet of herring boats] round <place>, [forty|sixty|thirty] lanterns like a town that has come to
visit. [One sold us a basket.|In the morning they were gone.]

A steamer, name not made out, [stood in too near <place>|came out of the murk], [saw us|heard the signal], and [turned
away in time|gave us three blasts for thanks].

The cutter <ship> [lay off for an hour|put in for water], and gave us [two newspapers|a cheese|news of an election], but
no mail. Her mate [had his hand dressed by <doctor>|remembered <A> from another ship].

A [spar|hatch cover|barrel of tallow|ship's bucket] came ashore at <place>, [marked with a ship's name we cannot make
out|long in the water]. <storekeeper> [has entered it|wrote to the receiver of wreck].

[Nothing|No sail] passed all day. <boy>, at the glass, [reported a cloud|fell asleep standing].

<coxswain> spoke a [pilot|lobster man] off <place>, who says that [prices are down|there is fever in the port|the <ship>
is overdue|a new breakwater is begun]. [One believes him by halves.|We talked of it all evening.]
""")
TALK = _templates("""
"How [deep|old|far] is it?" asked <boy>, meaning [the sea|the moon|everything]. <A> said: "[It varies.|As far as it
likes.]" [He wrote it down.|It seemed to content him.]

<A> met <B> on the stairs, each with a lantern, each [looking for the other|going to see what the noise was]. [Neither
had made it.|They sat down where they were and laughed.]

<A>, who [was never known to hurry|has a bad knee], ran. [A kettle had boiled over.|There was a letter with his name, or
so <B> had told him.]

<storekeeper> asked <A> to sign for [a candle|his own boots]. <A> signed with a [drawing of a fish|cross]. [It has been
filed.|<storekeeper> can be heard breathing.]

<A> has a saying for each day. Today: "[A dry boot is half a dinner.|Never thank a tide.|What floats is not always
yours.]" <B> [wrote it on the wall|asked for yesterday's back].

It is held by <A> that [left-handed men are lucky in fog|nobody drowns on a full stomach|the third biscuit is the best].
<B> [is left-handed, and dissents|will put it to the test].

<captain> passed <A> in the yard and said "[Good|Well]." We have been [all day at the meaning of it|asking him since
what he had done].

<A> [apologised to a chair|was heard to bless the pump], in the dark, and <B> [will not let it drop|answered for it].

<naturalist> told <A> the age of [the rocks|a limpet]. He [sat down on one with more care|was quiet all through dinner,
and then said: "And never moved house."].

"If I were [the Board|king]," said <A>, and [gave us half an hour|banished turnips]. <B> [moved an amendment|voted
against, from his bunk].

<cook> and <captain> had a conversation through the hatch, of which we heard [only "never" and "suet"|the pauses].
[There will be suet.|He came out smiling, so he lost.]

<A> and <B> both claim [the warm end of the bench|to have seen the comet of the year nine, or its tail]. [<C> measured
the bench.|They cannot both be so old.]

<A> maintains that [no two waves are alike|the seventh wave is the largest|gulls know the date]. <B> [sat at <place> for
an hour to test it|demanded figures, and was given some].

<boy> wants to be [a pilot|an engineer|a pirate, but a lawful one]. <A> [told him what they eat|showed him a knot to
begin with]; <B> said that [he himself had wanted to be a baker|it was mostly bookkeeping].

"You are in my light," said <A>. "[It is a lighthouse|There is plenty of it]," said <B>. [It was thought very good, at
that hour.|They had had a long day.]

<captain> asked <A> [1:the use of the brass box on the landing wall|what he would do with a hundred pounds]. <A> said
that [1:he had been saluting it|he would buy silence]. [1:It was passed over.|<captain> said so would he.]

<A> tells the one about [the deaf pilot|the parson's parrot|the two tailors]. <B> [laughs before it starts|supplies the
end in a low voice]. [One would miss it.|I have stopped counting.]

<naturalist> asked <A> not to [1:whistle at the puffins|call it seaweed]. He [1:begged their pardon, one by one|calls it
nothing now, and is careful where he walks].

"In my last [ship|post]," <A> began, and <B> [left the room|looked at the clock]. It was about [a cook who went mad|a
mermaid and a customs man], and [was, for once, quite short|<C>, who had been there, says that it was otherwise].

"[Rain|Wind] by night," said <A>. "[You said so yesterday|You say so daily]," said <B>. "[And was I wrong?|One day it
will be right.]"

<boy> asked <A> whether [the earth is hollow|a ship knows its name|fish get thirsty|the light is paid by the flash]. <A>
[thought it over until supper|said he would look into it|referred him to <B>].

<A> [has resolved to rise at five|has given up his pipe|means to learn Latin|will speak no ill of anyone] [until
Sunday|for a month]. <B> [gives it three days|has opened a book on it].

I heard <A> tell <B> that [a man who whistles indoors will whistle alone|no bad day was ever made better by an early
start|salt water cures everything but thirst].

"What day is it?" asked <A> at breakfast. [Nobody was sure.|Four of us answered, with three days.] I was [applied
to|sent for], as the one who writes it down.

<captain> and <A> [walked to <place> and back|stood an hour on the gallery], talking of [promotion|sheep|a bridge that
fell down|what a man should leave behind]. [I do not know who convinced whom.|Both came back thoughtful.]

<A> [1:has taken to keeping bees, in conversation|speaks of buying a farm], though [1:there are none within twenty
miles|he has never owned a spade]. <B> [1:asks after them daily|has promised to visit].

<storekeeper> to <A>: "You have signed for [two|three] [lanterns|hammers|blankets]." <A>: "[I have worn out one.|The sea
signed for the other.]"

<cook> told <A> to his face that [he had the manners of a tide|she had buried better men]. He [took it as a
compliment|has chopped wood ever since].

<doctor>, asked for the secret of a long life, [1:told <A> that it was other people's work|said "Boredom," and looked
around him]. [1:<B> intends to live for ever, then.|It was much repeated.]

<A> says that he [dreams in fog signals|hears the sea stop, some nights]. <B> [says that it is the cheese|has heard it
too].
""")
THOUGHTS = _templates("""
There are days that [ask to be written|write themselves], and days like this one, [which must be carried to the page in
a spoon|when I sharpen the pencil twice].

Somebody laughs in his sleep, at about four, [two doors from mine|over my head]. I have not asked [who|what about]. I
should miss it.

I used to think that [an island was a small place with water round it|a lighthouse was a thing one sees]. [It is the
other way about.|From within it is mostly stairs.]

[Read|I have read] over last spring's entries as if they were by [another man|a younger brother]. He [was very sure
about the weather|wrote a better hand].

What I shall keep of this place is [the smell of warm oil and cold stone|the sound of eleven spoons|the shape of the
dark beyond the beam]. One [never knows beforehand|may be wrong].

It struck me at supper that [no two of us hold a knife alike|each of us has his own way to shut a door], and that I
could [tell them all blindfold|write a book of it].

<A> sees me write and straightens his [back|collar]. [It is an odd power.|I have put him down as he was, slouching.]

The [tide table|almanac] is the only book here that is [never wrong and never sorry|read to the end by everyone].

[Nobody thanked the lamp today, or yesterday.|A ship that is not wrecked leaves no mark in any log but this one.] [I
mention it.|So much of our work is that something did not happen.]

The first [words|entry] in this book had the sea in every line. Now I must [remind myself to mention it|be told that it
is rough].

On such an evening I could believe [that we were put here for our own good|the world well lost]. <A> has just [dropped a
tray|asked who took the lid of the pot], and [I come to myself|that is that].

A year ago I could not have said [which wind it was from my bed|that a man's step tells his temper]. [One is being
taught something.|It is not a thing to put in a letter of application.]

I notice that I write of [weather and soup|what breaks and who is cross], and never of [the great quiet between|how the
light crosses the ceiling at night and how one breathes with it].

[A letter I began|My letter home] [grows by a line a day|has reached its ninth sheet]. [What is there to tell them?|It
says less than this book, and better spelt.]

<A> said today that we are [all of us a little odd by now|so many clocks in one room|the only people who have heard all
our stories]. [Nobody asked whom he meant.|It was kindly meant, I think.]

[Found|I found] a pressed [flower|fern] between two pages of last [month|season], and [do not know who put it
there|could not say from which walk].

[The captain says|<captain> says] that a log should hold [1:nothing one would blush for|facts only]. [1:I showed him
this page.|It is a fact that the moon rose out of the sea like a thing just thought of.]

[It is a curious thing|One notices] how [small|few] the things are that one [quarrels about|waits for] here, and how
[large they look by lamplight|well they fill a day].

I [counted|reckoned] today: <days> days since we landed. [It feels both more and less.|<A> would have it that the first
ones ought to count double.]

The island [1:grows smaller each month|has begun to seem large]. [1:I know every stone between here and
<place>.|Yesterday I found a hollow by <place> that I had never seen.]

My [pen is worn out|ink is thinned with tea|blotter is all one blot], which the reader will [forgive|have noticed].
[There is little to write.|It has its effect on the style.]

<A> asked what I find to write on such a day. I said: ["That you asked."|"The wind, mostly, and who was cross."]

If this book is ever read by a [stranger|clerk in an office], let him know that [we were mostly cheerful|the stove
smoked in any wind from the <wind>|nobody here has ever finished a sentence in a gale].

One [learns|comes to know] the house by its sounds: [<A> on the stairs|the pump], [the loose shutter|the lens turning
overhead], and [under all of it the sea|somebody laughing in the kitchen].

[I was asked to note|For the record]: [that <A> was the first at breakfast|that the stove was not at fault|that the pig,
had we one, would have been forgiven]. It is noted.

A [good|quiet|useful] day, of the sort that leaves [no mark|little for the log]. [I should like more of them.|One would
know their worth in a bad week.]
""")
STORES = _templates("""
<storekeeper> reports [a weevil|a discrepancy of one spoon|the loss of a funnel], and [oil to the number of <oil>
casks|coal, <coal> bags]. [He was thanked.|He expected more concern.]

The [oil store|coal shed] was tidied, so that one can now walk in it: [<oil> casks in three rows|<coal> bags, and under
them a barrow we had given up].

<storekeeper> has proved by [long division|the rule of three] that flour, at <flour> sacks, will last [till the swallows
come|if <A> is spoken to]. <cook> [proved otherwise|laughed].

Drew [a gallon of paint|six candles|a pound of nails] for <A>, against a signature. In hand: oil <oil>, flour <flour>,
coal <coal>. [<storekeeper> sleeps with the book.|The pen was lent, and returned.]

<oil> casks of oil, <flour> sacks, <coal> bags: so <storekeeper>, [reading it out like a psalm|in three colours of ink].

<storekeeper> has [moved everything one shelf to the left|painted numbers on the bins], and [nobody can find the tea|is
happier than I have seen him]. Flour: <flour> sacks.

<storekeeper>'s count at the week's end: oil <oil> casks, flour <flour> sacks, coal <coal> bags. [Sufficient.|He is not
easy about the flour.|He wishes it known that mice are not his department.]

Opened a new cask of oil, which leaves <oil>. [Clear and sweet.|A little cloudy, but it burns.]

<storekeeper> and I went over the flour: <flour> sacks, [one of them damp|all dry]. <cook> [wants it entered that she
wastes none|says she could have told us without the walk].

Coal: <coal> bags, [wet|well stacked]. <smith> [asks for more for the engine|burns the dust with tar, and is proud of
it].

[Candles|Soap|Matches]: [enough till the next ship|low]. <storekeeper> has [put himself on half allowance as an
example|locked the cupboard and lost the key, and found it].
""")
SUNDAY = _templates("""
Sunday. <A> slept through the [psalm|lesson] and woke for the [pudding|amen]. <captain> [let it pass|preached, from then
on, at him].

A quiet Sunday: [letters written at the long table|stockings drying on the rail], <A> [whistling hymns in waltz time|out
alone along the shore], and <boy> [allowed the telescope|washed].

Sunday, the second lesson read by <A>, who [does not hold with commas|made a fine thing of the locusts]. Cold meat, by
the cook's decree; [the stove rested too|she sat in the sun with her hands in her lap].

Sunday, and [letters|mending]. <A> [lent me his ink, which is violet|wore a collar], <B> [read the lesson at a
gallop|fed the goats the order of service].

<captain> being hoarse, <doctor> read the service, [faster|with pauses for effect]. <A> [asked for him again|found it
almost too interesting].

Sunday. <captain> read the service in [the mess|the lamp room], [<A> and <B> singing in different keys|the wind taking
the responses]. [A short sermon, well received.|Nobody slept, that I saw.]

Sunday, and no work but the light. <A> [walked round the island|wrote home|lay in bed till eight, a record], <B>
[trimmed all the beards in the house|did nothing, with great skill].

After service <captain> [gave out clean razors|inspected our kit|told the boy what a Sunday was, in his day], and we had
[duff with raisins|the good tablecloth|a fire in the big room].

Sunday. [No bell, so <boy> beat a pan.|<signalman> ran up the good flag.] The text was [about the house on the rock|from
Jonah|about vineyards], and [apt|hard to picture from here].

Being Sunday, the [chess|draughts] board stayed shut and <A> [looked at it|took a walk to <place> instead].
""")
MAIL = _templates("""
<boy> saw her first: the <ship>, with the mail flag up. [Hats went into the air.|Four men at once remembered work at the
landing.] <captain> had [a long envelope with a seal, and read it standing|one letter, in a child's hand, which he put
inside his coat].

Mail. The <ship> had it from another ship, which had it from a third; [it smelt of tar|the newest of it is five weeks
old]. <A> [read aloud the parts that were for all of us|laughed over his, then read it again and did not].

The <ship> at last, and three bags. [It was sorted on the mess table, with everyone helping.|The rain got at the ink.]
<A> had [a parcel with a cake, broken but whole in spirit|a bill for a hat], <B> [nothing, and whistled|a letter so
thick that it took two stamps].

We had the mail from the <ship>, in baskets, [hand to hand up the steps|by the breeches buoy, one bag at a time]. <cook>
[sat down with hers in the pantry and shut the door|had a postcard of a bandstand]. Tonight [one hears pages|there is a
lamp in every window].

Post, brought by the <ship>. [My brother is well and says that I exaggerate.|They think at home that we have theatres.]
<A> [has become an uncle|is sued by a tailor], and [stood us a bottle|asks that it be forgotten].

The <ship> lay off from [nine|ten|noon] to [three|four|sunset] and brought the mail: [four|three|five] bags, and for me
[nothing|two letters|a bill]. <coxswain> made [four|five|three] trips through the surf.

Mail by the <ship>, [a week late|before its time]. <A> [read his on the landing, in the spray|put his away for the
evening, as a miser would], <B> had [seven|none|one, and read it seven times].

A sail at dawn, and it was the <ship> with the mail. [Nobody did anything else.|Breakfast was left standing.] <captain>
gave out the letters by name, and <A> [answered for three people|had to be called twice].
""")
CARGO = _templates("""
Her boats brought up <cargo> and <cargo2>, and after an argument about the bill of lading <cargo3>. <storekeeper> [won
it|was shown his own signature]. Of oil we now have <oil> casks.

Stores by the same ship: <cargo>; <cargo2>; <cargo3>, [which we had stopped hoping for|not asked for, but welcome]. Oil,
with what she landed, <oil> casks.

It took [till dark|the whole afternoon] to get everything up from the landing: <cargo>, <cargo2>, <cargo3> and the oil,
which makes <oil> casks. <A> [sat down on the last of it and would not be moved|was found asleep between two sacks].

We were sent <cargo>, <cargo2> and <cargo3>; [somebody else on this coast has our lamp wicks|the nails are the wrong
nails]. <storekeeper> has put down the oil at <oil> casks, [twice underlined|and gone to lie down].

Landed from her: <cargo>, <cargo2> and <cargo3>, [all in order|one item wet|with the list in another hand than the
goods]. <storekeeper> [signed under protest|counted it twice on the quay]. Oil now <oil> casks.

She had for us <cargo>, <cargo2>, and, for no reason known to anyone, <cargo3>. With the new casks we have <oil> of oil.
<A> [dropped a corner on his foot|carried the heaviest and was heard to say so].
""")
FEASTS = {
    date(1887, 4, 10): (
        "Easter. <cook> dyed eggs with onion skins and hid them so well at <place> that the gulls, we think, had "
        "the most. <captain> shook hands with each of us at the door."
    ),
    date(1887, 6, 24): (
        "Midsummer. We burned a fire of driftwood on the beach, against the regulations and with the captain's back"
        " turned. <A> jumped over it; <B>, less wisely, followed."
    ),
    date(1887, 12, 24): (
        "Carols on the stairs of the tower, one voice to every landing, <boy> at the top. It came down the well "
        "like water. <cook> cried and said it was the onions."
    ),
    date(1887, 12, 25): (
        "Christmas Day. Goose, of a sort; pudding, of a very good sort. <captain> gave each of us a knife. We gave "
        "him a walking stick of whalebone, and he made a speech of four words, all of them thank you."
    ),
    date(1887, 12, 31): (
        "We saw the old year out on the gallery. At midnight <smith> gave twelve strokes on the whistle, and a ship"
        " far out, we shall never know which, gave twelve back."
    ),
    date(1888, 2, 29): (
        "A leap day. <A> holds that it should not be worked, being nobody's; <captain> holds otherwise, and <A> "
        "painted a fence."
    ),
    date(1888, 4, 1): (
        "Easter again, and the first of April with it. <A> sent <B> up the tower for a bucket of beam ends, and he "
        "came down with one, beautifully labelled."
    ),
}

# --- set pieces: each happens once, if at all, in weather that suits it -----------------------------------------------

SET_PIECES = {
    "any": _templates("""
The clockwork stopped at nine in the evening with a sound like a dropped tray, and the lens had to be turned by hand
until sunrise. We went up two by two, half an hour each, pushing the great thing round by its rim and counting aloud to
keep the flash. <A> and <B> had the hour before dawn. Nobody at sea will have known, says <keeper>, and that is the best
that can be said of any night here.

The inspector of lights came ashore and inspected: oil, wicks, brass, bedding, the boy's ears. He ran a white glove
along the top of the lens frame and it stayed white. Leaving, he sat down on the bench that <A> had painted that
morning. <captain> says that the report will be favourable as to polish.

<boy> is thirteen, or so he reckons, and <captain> let him command for a day. He ordered treacle at breakfast, a salute
for the hens, and half an hour's holiday at four. At night he came to me, very white, to ask whether the commander may
go to bed before the others.

The cable was dead for six days, and on the fourth of them <A> said what others had thought, that there might be nobody
at the other end. On the seventh it woke up and asked us, rather sharply, for the return of an inkstand.

We gave a play in the boathouse, written by <doctor>: The Smuggler's Remorse, in three acts. <A> was the smuggler, <B>
his aged mother, and <C> the remorse. The lamp set fire to the second act. It was agreed that this was the best of the
three.

A form has come from the Board, on which we are to state how many persons sleep at the station, how many rooms have
fireplaces and whether any of us is deaf. <A> and <B> discussed for an evening whether one should count the man who is
awake. <captain> signed it blank.

An earthquake, at twenty past two, of about the strength of a cart going by. Every cup on the dresser spoke. <A>, who
was shaving, has a mark to show for it; <B> slept through and will not believe us.

Starlings have built in the pipe of the mess stove, and <cook> will not have it lit. We ate in the passage for the sake
of five open mouths. <A> protested in the name of reason and was seen later with a saucer of crumbs.

<captain> addressed us on the subject of buttons. There were, he said, seven missing in this room. It was the thin end.
He had seen a crew begin with buttons and finish by eating a mule. <A> sewed until midnight, and <B> asked, but not
loudly, about the mule.

The hymn books have been eaten, from the binding inwards, by something that <naturalist> has a name for. We sang from
memory. It turns out that <A> has had his own words to most of them since childhood, and they are not unsuitable.

A pudding disappeared from the sill where it was cooling, cloth and all. <cook> assembled us and looked along the row.
In the silence one heard the doctor's dog, beneath the table, breathing like someone who has dined.

Somebody has corrected the spelling in this book, in pencil, back to the first month. I asked round the table. <A>
thought that it must be the damp. The hand is a good one; it is right in every case but two.

<keeper> has been thirty years in the service today. He would not have it noticed. But <second> had polished the stair
rail from top to bottom, all of it, in the night, and when the old man took hold of it in the morning he stood a while
before he went up.
"""),
    "fair": _templates("""
Cricket on the sands at low water, Tower against Shore. <A> made nineteen, mostly in the direction of the sea. <B>
bowled underhand, out of principle. The match was given up at half past four with the wicket two feet under, and both
sides claim it.

A bottle came in at the landing with a paper in it. We gathered; <captain> drew the cork. It said, in a round hand, that
the finder would oblige by throwing it back, as the sender had not finished. <A> added a line about the weather and
threw it from the steps.

A dead whale has drifted in below the cliff, forty-eight feet by <surveyor>'s chain. The first day it was a wonder.
<naturalist> has been inside it. By the week's end we shall all have moved to the other side of the island.

Ladybirds in such numbers that the south wall was red. They came in off the sea about noon, an hour of them, got into
the soup and the sextant case, and by evening were gone. <naturalist> filled a matchbox and says that she will be asked
for proof.

Sheared the sheep, all fourteen, in the fold. <A> had boasted that he learned it as a boy; he cannot have been a patient
one. The ram got away half done and is to be seen on the skyline, looking like a lord in his shirt.

The old anchor off the quay, which two expeditions have failed to lift, came up today. <coxswain> did it with empty
casks and patience: lashed them on at low water, lit his pipe, and let the tide do it. <A> has asked to be shown again,
slower.

A man with a camera, put ashore for an hour from a yacht, took us all before the tower door. We were to keep still while
he counted nine. A hen walked across at seven. It will be there for ever, says <A>, when all our names are forgotten.

<boy> has measured the tower with a stick, a string and its shadow, and made it one hundred and nine feet. <surveyor>,
who has it as one hundred and eight and a half, went out and did it again by his own means, and came in and shook hands.

Someone has planted a row of shells round the grave of the unknown sailor, above the landing, each the same way up.
<captain> asked who, to thank him. Nobody stirred. <smith>, of whom one would not think it, was looking hard at the
ceiling.

A fire balloon, made by <smith> and <boy> out of the Board's best tissue, rose from the yard at dusk, cleared the tower
and sailed off burning, low over the water. Ten miles out a trawler changed her course for it. <captain> has written a
letter and forbidden another.

We walked right round the island along the edge, for the first time all together, <cook> in front with a stick. It took
seven hours, with a stop for eggs. <A> fell in once, and <B> twice, the second time while explaining.
"""),
    "foul": _templates("""
Two fishermen from the mainland were seen on the outer skerry at daybreak, waving a jersey. <coxswain> took the old boat
out with <A>, <B> and <C>, and for an hour none of us on shore spoke. They brought both in, blue, one of them without
his boots. <cook> put them to bed in the kitchen. The elder asked first about his nets.

Lightning struck the flagstaff. It ran down the stay, melted the padlock of the paint store, and left by way of <A>'s
bucket, which he had just set down. He has not picked it up since. <signalman> found every needle in the hut pointing
the wrong way.

The sea took the lower store in the night: forty feet of wall, the spare mast, and a winter's driftwood. We stood at the
edge by lantern, eleven of us in a row, and nobody found anything to say until <A> asked whether he might now be excused
from painting it.

Five of us were caught on the far side by the tide and the dark, and lay the night in the fish cellar under one sail:
<A>, <B>, <C>, <boy> and I. We told each other the plots of books, wrongly. Towards morning <A> sang, quite well, a
thing in a language that he has never mentioned knowing.
"""),
}

# --- plots: each stage is told in an entry of its own -----------------------------------------------------------------

REPAIRS = [
    "the pump|draws nothing but air", "the boat winch|slips a tooth at every turn",
    "the kitchen stove|smokes at both ends", "the fog whistle|has lost an octave",
    "the weather vane|points for ever east", "the cistern|loses an inch a night", "the station clock|strikes thirteen",
    "the lantern door|has dropped on its hinge", "the mess table|has split end to end",
    "the stern of the old boat|lets in water", "the roof of the hen-house|has blown open",
    "the landing crane|groans and jams", "the forge chimney|draws downwards",
    "the sundial|has been knocked from its bed", "the second-best kettle|leaks",
    "the rain gauge|overflows without rain", "the tower stair rail|has worked loose",
    "the signal mast|leans a hand to the south", "the coffee mill|grinds nothing", "the handcart|has lost a wheel",
    "the wash-house copper|has a crack", "the gate at the landing|will not latch", "the harmonium|wheezes on every G",
    "the tide gauge|sticks at half flood",
]  # fmt: skip
REPAIR = _stages("""
<thing> <fault>. <A> [says it was well when he left it|has looked at it from all sides|hit it once, without effect], and
<B> is to [help him|hold the pieces].

Found this morning that <thing> <fault>. [Nobody touched it, as usual.|It has been coming for weeks.] <A> [has taken it
upon himself|was given the job before he could leave the room].

It is now beyond denying that <thing> <fault>. [<storekeeper> has no spare.|The manual is silent.] <A> [rolled up his
sleeves|was seen to smile], and <B> [made room|left quietly].

<B> [complained of|threatened|looked hard at] <thing>, which <fault>. <A>, who [had warned him|must mend it], [is being
very civil about it|has started on a list].

<A> reports that <thing> <fault>, and [wants leather, brass and patience|asks for two days and no advice]. <B> [gave
advice|offered to do it in one].

<thing>, of all things, <fault>. <captain> [raised an eyebrow|said "When?"], <A> [said "By Friday"|fetched his bag], and
<B> [put money on it|said nothing, which was worse].
--
<A> has <thing> [half taken down|in more pieces than he began with]. [Two parts are left over from an earlier
repair.|One piece rolled under the boards, and had to be fished for.] <B> [made a new pin|held the lamp].

Second attempt on <thing>. <A> [worked till dark|is hopeful], <B> [less so|keeps out of reach]. [It moved, once.|It is
now quieter, but no better.]

<A> was [up to the elbows|lying underneath with one boot showing] all day on account of <thing>. <B> [passed him tools,
mostly the right ones|read him the instructions, which are for another model].

As to <thing>, <A> [has a theory|has abandoned his theory]. <B> [has another|was sent to the forge for a longer bolt].
[Tomorrow, they say.|They talk of it at meals.]

No progress with <thing>: [the part that <A> forged was a hair too wide|what was mended in the morning broke by noon].
<B> [laughed, and was handed the file|suggests that we live without it].

<A> and <B> [argued about|circled] <thing> from breakfast on. [It has been blessed, kicked and oiled.|A letter to the
makers has been drafted.] [Parts are on the windowsill.|It is quieter, but so is everyone.]
--
<thing> is mended. <A> [demonstrated it to all comers|pretends that it was nothing], and <B> [owes him a plug of
tobacco|took off his hat to it].

<A> finished with <thing> at [last|four o'clock]: [it works better than new|it works, if one speaks kindly to it]. [We
drank to it in tea.|<B> has painted the date on it.]

<A> called us all out to see <thing>, [whole|mended] and [oiled|with a lick of paint]. [It behaved.|It needed a second
try.] <B> [touched wood|gave three cheers, alone].

That is the end of the trouble with <thing>. It took <A> [less time than the talk about it|three evenings and a hairpin
of the cook's]; <B> [was gracious|had bet against it, and paid].

At last <thing> [does its duty|is whole]. The trouble was [a dead wasp|a washer put in upside down, years ago|sand], as
<B> [had said|will tell anyone], and <A> [bears it|does not wish it mentioned].

<A> [whistling|in a clean shirt]: <thing> is as it should be. <B> [asked for it to be written here with his name|stood
by with a bucket, unneeded].
""")
QUARRELS = [
    "the best hook in the passage", "a borrowed razor", "snoring", "whose turn it was at the pump",
    "the window, open or shut", "a remark about the other's home town", "a lost chess queen", "how to stack driftwood",
    "a wet towel", "the way to pronounce the island's name", "a bet neither will write down",
    "the loan of a pair of dry socks", "the last kipper", "a caricature on the wash-house wall",
    "the right way to coil a rope", "who saw the whale first",
]  # fmt: skip
QUARREL = _stages("""
[Words|High words|A quarrel] between <A> and <B> over <cause>. [The doors did the rest.|It was heard in the tower.]
[<captain> looked up once, which ended it for the day.|Neither came to supper.]

It is war between <A> and <B>, the cause being <cause>. [I was asked to note who began it, by both.|One of them is
right, but it no longer matters.]

<A> called <B> [a barnacle|an old woman|a fool] at dinner. At the bottom of it lies <cause>. [<C> went on eating.|There
was pudding left over, so grave was it.]

<A> and <B> have fallen out over <cause>. [They pass the salt by way of <C>.|It seems to have begun weeks ago.]
--
<A> and <B> [still do not speak|are at the stage of politeness]. <C> [carries messages, improving them on the way|has
tried to reason with both, and is now avoided by both].

<A> [whistles whenever <B> comes in|sits with his back to <B>]. <C> [made them both laugh at once, by accident, and it
nearly ended there|has asked to be moved].

No truce yet over <cause>. <captain> [spoke to <A>|had <B> in for a quarter of an hour], and [it is now carried on more
quietly|for an evening there was calm].

The matter of <cause> [is not settled|has found a second wind]: <A> [1:wrote out his case on two sheets|moved to the
other end of the table], and <B> [1:read it aloud|hums when he enters].
--
<A> and <B> [shook hands|made it up] [in the boat, where there was no room not to|over the washing-up|with <C> as
witness]. As for <cause>, [it turned out that neither had been right|nobody mentioned it].

<A> [pulled <B> out of the surf by the collar|carried <B>'s load up from the landing], and after that one cannot well go
on about <cause>. [They are inseparable.|They are shy of one another.]

The end of the affair of <cause>: <B> [told the story against himself at supper|brought <A> a mug of tea without being
asked]. <A> [laughed first|drank it].

Peace between <A> and <B>. <A> [left a pipe of tobacco on <B>'s pillow|gave way, in so many words], and <B> [went
red|said he had been about to]. [The house is easier.|It was becoming dull without them.]
""")
AILMENTS = [
    "a fever", "the toothache", "a sprained ankle", "a crushed thumb", "a cough like a saw", "the lumbago",
    "a scalded hand", "an eye full of lime", "a quinsy", "a chill on the stomach",
    "a cracked rib", "a septic finger",
]  # fmt: skip
ILLNESS = _stages("""
<A> has <ailment>. <doctor> [put him to bed|prescribed rest and a poultice], and [<B> takes his duties|we all look in,
which he says is the worst of it].

<doctor> was called to <A>, who has <ailment> [and told nobody for two days|and a great many opinions about the
treatment]. <B> [stands in|carried his meals up].
--
<A> is [no better|a little worse|about the same]; <doctor> [sat up with him|has changed the dressing twice], <B> [read
him the almanac|made broth, under <cook>'s eye].

<A>, [from his bed|propped on three pillows], [directs the work of the station|asks the hour every quarter of an hour].
<doctor> says that <ailment> [must run its course|is the least of his complaints].
--
<A> is [up|about] again, [pale|thinner], and [was given the chair by the stove|ate for two]. <doctor> [takes no credit
and looks as if he might|has hidden the crutch as a keepsake].

The [doctor's bulletin|bulletin]: <A> [fit for light work|released, with a caution]. <B> [is glad to hand back the extra
watch|says he had just got used to the quiet].
""")
LOST = [
    "tobacco box|in the flour scoop", "reading glass|under his own hatband", "pocket knife|inside a cod",
    "key to the boathouse|on its nail, where eleven people had looked", "left boot|on the roof, by way of the goats",
    "half-written letter|marking the place in the hymn book", "lucky button|in the pudding basin",
    "tin whistle|in the barrel of oars", "christening spoon|in a crow's nest above the landing",
    "watch|hanging in the hen-house, still going", "good chisel|holding up the wash-house shelf",
    "hat|on the scarecrow", "pound note|between the pages of the tide tables", "razor strop|round a parcel of seed",
    "prayer book|beneath the short leg of the table", "marlinspike|wedged in the fog whistle",
    "blue jersey|stopping the draught in the passage", "fishing reel|in the pocket of somebody else's oilskin",
    "ruler|propping the lid of the harmonium", "second-best pipe|in the mouth of the scarecrow",
]  # fmt: skip
LOSING = _stages("""
<A> has lost his <thing>. [Everything was turned out.|He accuses the cat, which we do not have.] <B> [was the last to
see it|looks innocent, which is taken amiss].

A hunt through the house for <A>'s <thing>, missed since [breakfast|yesterday]. <B> [searched his own bed first, to be
above suspicion|offers a reward of one biscuit].

<A> came down to breakfast asking who had his <thing>. [Nobody had.|We all had, to hear us.] <B> [helped him to look in
all the places where he had looked|recalled seeing it, but not where, or when].
--
<A>'s <thing>: still missing. He [goes about tapping walls|has posted a notice on the mess door], and <B> [holds that
things return when one ceases to look|added a line below it].

<A> [spoke of little else|dreamt] of his <thing>. <B> proposed [that the sea had it|a search of the storekeeper's
conscience], and was [not thanked|told to look to his own].

No trace of <A>'s <thing>. [He has forgiven us, in general.|He now locks up what is left.] <B> [lent him his own|made
him another out of wood, for consolation].
--
Found: <A>'s <thing>, <where>. He [has begged everyone's pardon, in order of rank|says that he put it there for safety],
and <B> [claims the reward|will not let it rest].

<B> came on <A>'s <thing>. It was <where>. [There was cheering.|Nobody can account for it.] <A> [has it on a string
now|bought us all a round of ginger beer on credit].

<A> has his <thing> again. It turned up <where>, and [he is suspiciously calm about it|<boy> had known, and had not been
asked]. <B> [wants an apology in writing|has been cleared].
""")
MAKINGS = [
    "a model of the tower in whalebone", "a rug of rope ends", "a pair of bookshelves", "a rocking chair",
    "a kite six feet high", "a chest of drawers out of packing cases", "a skiff for the boy",
    "a bird table", "a waistcoat of sealskin", "a set of skittles", "a cigar-box fiddle",
    "a barometer in a pickle jar", "a wall map of the island in coloured wools", "a bench for the landing",
    "a windmill to grind pepper", "a sledge",
]  # fmt: skip
MAKING = _stages("""
<A> has begun [to make|upon] <thing>. [He asks nobody's opinion.|The wood came ashore in the last blow.] <B> [has been
sworn in as assistant|gives it a fortnight].

<A> [measures things when he thinks himself alone|has asked for glue]. It will be <thing>, <B> says, who [has seen the
drawing|was told under oath].

In spare hours <A> works at <thing>, [behind a curtain|on the kitchen table, until turned off it], while <B> [sharpens
for him|asks what it is].

<A> wants to have <thing>, and since [nobody sells one within forty miles|he has the winter before him|wood is cheap on
this shore], he will make it. <B> [drew a line on the wall to be used as a ruler|warned the household].
--
<A> has [come to the hard part of|unpicked half of] <thing>. <B> [says that it has a lean|was allowed to look, from the
door]. [It grows.|It begins to resemble itself.]

<A> worked [till two|by one candle] on <thing>. [There is blood on it.|A joint would not close.] <B> [lent his
vice|praises it to everyone but him].

<thing>, <A>'s, [takes up the passage|advances by inches]. [It has been fallen over twice.|<B> was caught admiring it.]

The household was [shown|kept from] <thing> at its present stage. <A> [is not satisfied|talks to it]; <B> [held a piece
for three hours, and knows it well|calls it she].
--
<A> finished <thing> and [set it in the mess room without a word|gave it to <B>, who had not expected it]. [It is
good.|We have all tried it.|One would pay money for it on shore.]

<A> unveiled <thing> after supper. [Applause.|A silence, then questions.] <B> [asked for the loan of it|found the one
fault, and was shown the door].

<thing> is done. <A> [walked round it|has cut his initials where they will not show], and <B> [made a speech|says the
next should be larger].

It is finished: <thing>, by <A>, [after one false end|signed underneath]. [<captain> asked the price.|It is in daily
use.] <B> [claims a tenth of the glory|polished it].
""")
BOOKS = [
    "The Vicar's Inheritance", "Across the Barrens with a Mule", "A Treatise on Bees", "The Mystery of Cold Aston",
    "Lives of the Engineers, volume two, the first being lost", "The Corsair's Daughter", "Letters from a Rectory",
    "The Amateur Beekeeper's Error", "Ten Months in Siberia", "The House with Two Doors", "Sermons for Seafarers",
    "Lady Clementina's Choice",
]  # fmt: skip
READING = _stages("""
<A> has begun to read aloud after supper: "<thing>". [<B> fell asleep in chapter one.|Opinions differ already.]

A new book tonight, "<thing>", read by <A>, with [voices|much feeling]. <B> [guesses the end, aloud|would have preferred
the other].

By vote, [four to three|after two ballots], the new book is "<thing>", and <A> is to read it. <B> [voted against and
sits in front|has asked for shorter chapters].

<A> opened "<thing>" tonight [under the good lamp|with a cough for silence], and [got as far as the weather|we are
promised a murder]. <B> [knits|heckles].
--
"<thing>": we are [halfway|past the shipwreck|at the trial]. <A> [lost the place|had to stop for laughing]; <B> [had
read ahead, and was fined|wants justice done].

<A> read two chapters of "<thing>" by request. [Nobody would go to bed.|<B> says no man ever spoke like that.]

Chapter <few> of "<thing>". <A> [does the aunt in falsetto|skipped a page, and was caught]; <B> [will not hear a word
against the curate|has changed his mind about the uncle].

No reading of "<thing>" tonight, [<A> being hoarse|by reason of a bet on how it goes on]. <B> [told us how he would have
it end|sulked].
--
Finished "<thing>". [A long silence.|The end is weak, says <A>, who had to read it.] <B> [wants it begun again|wiped his
eyes, smoke being in the room].

"<thing>" came to its end tonight. <A> [shut it like a door|was clapped]. <B> [has written a better last chapter|will
hear no word against the aunt].

The last page of "<thing>" is [missing|torn]. <A> [made one up, and nobody noticed till he laughed|read us the
advertisements instead]. <B> [demands the money back|is writing to the publisher].

"<thing>" is over, and [everyone married|the right person drowned]. <A> has [earned his throat pastilles|put the book
back on its shelf, spine inwards]. <B> [misses it already|says life is not like that, and is glad].
""")
HOPES = [
    "news of his brother's ship", "an answer from a lady", "the result of an examination", "a parcel of seeds",
    "a reply from the Board about his pension", "word of a lawsuit over a meadow", "a photograph of his niece",
    "the price of a harmonium",
]  # fmt: skip
HOPING = _stages("""
<A> is waiting for <thing>, and [has told each of us in confidence|watches the sea road more than his work]. <B>
[counsels patience|has begun to wait for it too].

It appears that <A> has written for <thing>, and [counts the days|is not sleeping]. <B> knows, and [is sworn to silence,
which is how we all know|does his chores unasked].
--
No boat today with <thing>, and <A> [says that he had forgotten all about it|has cleaned the same lamp twice]. <B>
[changes the subject kindly|lent him a book].

<A> [1:wrote again|drafted a second letter and burned it], concerning <thing>. <B> [1:posted it for him, by a fishing
boat|held the match].
--
It has come: <thing>, for <A>, [among the last letters|in a packet that had been under the seed catalogue]. [It is
good.|It is not what he hoped, but he is glad to have it over.] <B> [shook his hand|was told before anyone].

A fishing boat had a letter for <A>: <thing>, at last. He read it [at the end of the quay|aloud, down to the signature],
and [1:threw his cap into the sea|folded it small]. <B> [1:fished it out|walked back with him].
""")
ABSENCE = _stages("""
<A> left us in the [boat for the mainland|mail boat], on account of [a sister's wedding|a court paper|teeth|a lease to
be signed], and will be some weeks away. <B> [has his bunk already|waved until it was foolish].

<A> is gone ashore [to give evidence|to see a man about an inheritance|to be fitted for spectacles], with a list of
errands from each of us as long as his arm. <B> [carried his bag|has his work, and his slippers].
--
<A> is back from the mainland, [fatter|in a new hat|with a box of oranges], and [talks faster than we are used to|went
round touching things]. <B> [gave up the bunk with regret|had kept his letters dry].

The [pilot cutter|herring boat] put <A> ashore this morning, back from the mainland with [a cough and a sackful of
gossip|all our errands done but one]. <B> [had to hear about the trams|was given a tie]. It was as if [he had never
gone|someone had lit another lamp].
""")
ONCE = [
    _stages("""
<A> brought in a gull with a broken wing from <place>. <doctor> set it, <B> was bitten, and it has been given the coal
box.
--
The gull in the coal box eats from <A>'s hand and hates <B>. It walks the passage at night like a bailiff.
--
<A> let the gull go from the gallery. It fell, thought, and flew. <B> said good riddance and watched until it was out of
sight.
"""),
    _stages("""
A seal pup lies at <place> with no mother near. <naturalist> has forbidden us to touch it; <A> touches it.
--
<A> feeds the pup on tinned milk, from a glove. It follows him as far as the pump and cries at the door.
--
The pup took to the water with <A> up to his knees beside it. It came back once, as if it had forgotten something, and
then no more.
"""),
    _stages("""
The brown goat is missing since <place>. <A> and <B> searched till dark with a lantern and a turnip.
--
The brown goat was seen on a ledge under <place>, chewing, where no goat can get to. <A> talked to it for an hour.
--
The brown goat walked in by the front door during breakfast with a length of somebody's rope. <A> embraced it.
"""),
    _stages("""
A racing pigeon came down in the yard, ringed and worn out. <signalman> gave it barley and a box by the stove.
--
The pigeon is rested and in no hurry. <A> wrote a message for its leg; <B> corrected the spelling.
--
The pigeon left at first light, twice round the tower and away south-east. <signalman> keeps looking at the box.
"""),
    _stages("""
Rats in the store. <storekeeper> has declared war, with <A> for an army and a bounty of a halfpenny a tail.
--
Eleven tails so far. <A> is suspected of breeding them.
--
The war on the rats is over, says <storekeeper>, by treaty: they have the old cask shed and we have the rest. <A> was
paid out in pennies.
"""),
    _stages("""
<naturalist> has three eider eggs in a hat by the stove. Everyone walks on tiptoe and <cook> has lost a shelf.
--
Two of <naturalist>'s eggs have hatched. They take <A> for their mother, and he has stopped complaining of it.
--
The eiders, grown past all hats, were walked down to <place> in procession, <A> leading, and swam off without a look.
"""),
    _stages("""
A bat came down the chimney into the mess, in daylight. <A> took charge of it with a soup tureen.
--
The bat hangs in <A>'s wardrobe, and he dresses in the passage.
--
The bat has gone from the wardrobe. <A> left the window open in any case, and a saucer, which <B> says bats do not use.
"""),
    _stages("""
There is a knocking in the tower wall, about the second landing, heard by <A> at one in the night. Three slow, and then
none. <B> says rats. <A> says that rats do not count.
--
The knocking again, and this time <keeper> heard it, who believes in nothing. <A> and <B> sat on the stairs with a
candle until four and heard it from below them, then from above.
--
The knocking is explained, or so <smith> says: a weight on the old bell wire, swinging in a north wind. He cut it down.
<A> would like it noted that the wind last night was south.
"""),
]

# --- facts: what happened, told once, with what led up to it and what came of it ----------------------------------


@dataclass(frozen=True)
class Fact:
    """Something that stands in one entry only: how it is asked and answered, and how it is told."""

    question: str
    answers: Sequence[str]
    told: Sequence[str]
    before: Sequence[str] = ()  # what led up to it, a stage each
    after: Sequence[str] = ()  # what came of it, a stage each
    earliest: float = 0.0  # may not be told before this share of the book

    def draw_answer(self, rng: random.Random) -> str:
        """One of the answers, with a digit for each "#"."""
        return re.sub("#", lambda _: str(rng.randint(1, 9)), rng.choice(self.answers))


FACTS = [
    Fact(
        "Where was <captain>'s chest buried?",
        ["Mercy Gully", "Gallows Knoll", "the Friar's Chair", "Hob's Kitchen", "the Weeping Stone", "Lantern Hollow"],
        before=_templates("""
<captain> is uneasy about the iron-bound chest under his bunk, which came with him from his last command. He had it out
on the floor tonight, looked at it, and pushed it back.
"""),
        told=_templates("""
<captain> asked me, of all people, to come with a spade after dark. We took his iron-bound chest on the handcart, well
wrapped in tarred canvas, and put it four feet down at <answer>. He levelled the turf with his own hands, and told me
that I might write it here, since nobody ever reads a log.

A thing to be set down once. <captain>'s chest is no longer under his bunk: he and I buried it tonight at <answer>, as
deep as the rock allowed, and rolled a stone over the place. What is in it I did not ask.
"""),
        after=_templates("""
<captain> sleeps better, he says, now that the chest is where it is. He and I exchanged a look, and <A> wanted to know
what was so amusing.

<A> noticed that the space under the captain's bunk is empty and asked after the chest. <captain> said that it had gone
where chests go.
"""),
    ),
    Fact(
        "Who broke the prism of the great lens?",
        ["Ambrose Tilley", "Lionel Prowse", "Septimus Gray", "Horace Blount", "Cuthbert Lyle", "Fabian Moss"],
        before=_templates("""
A prism of the great lens is broken, low down on the landward side. <keeper> found it when he drew the curtain, and sat
down on the stairs. Nobody has owned to it.
"""),
        told=_templates("""
So now we know about the prism of the great lens. It was <answer>, the inspector's clerk, who was shown over the lantern
last month and swung his telescope about to look at a ship. He has written to <captain>, three pages, and encloses a
postal order.

The mystery of the lens is solved. <boy>, who had kept silent out of pity, told <keeper> that the visitor <answer>
struck the prism with his umbrella while showing how he would fence. It broke clean across.
"""),
        after=_templates("""
The new prism for the lens is in its frame. <keeper> set it himself, in stockinged feet, and would let nobody breathe.
One cannot tell it from its neighbours.
"""),
    ),
    Fact(
        "What is the proper name of <doctor>'s dog?",
        ["Marmaduke", "Tuppence", "Caliban", "Boswell", "Gulliver", "Archimedes"],
        before=_templates("""
The doctor's dog, which answers to a whistle and to anything fried, has dug up the bean row. <doctor> says it is looking
for Africa.
"""),
        told=_templates("""
<A> asked at last what the doctor's dog is called, since we have all been saying "dog". "<answer>," said <doctor>, "but
he does not care to have it bandied about." The animal had got up at the word and was looking from one to the other with
great reserve.

<doctor> lost his temper with his dog today, over a boot, and for the first time we heard its proper name: <answer>. It
sat down at once, like a bishop who has been recognised in the street.
"""),
        after=_templates("""
The doctor's dog went into the sea after a stick, a thing beneath it in general, and slept by the stove all evening,
steaming.

The doctor's dog has taken to sleeping across the foot of <A>'s bed, and <doctor> is hurt.
"""),
    ),
    Fact(
        "At which combination does the dial lock of the strongroom open?",
        ["##-##-##"],
        before=_templates("""
The old padlock of the strongroom has rusted solid. <smith> cut it off, and <captain> has sent for a lock with dials,
such as banks have.
"""),
        told=_templates("""
The new dial lock is on the strongroom door. <captain> has set it to <answer> and told nobody but <storekeeper> and me;
I enter it here because he forgets figures and I forget everything else.

<storekeeper> could not open the strongroom this morning, having turned the dials by guess. For the avoidance of axes:
it opens at <answer>, left, right and left again. So <captain> ordered me to write.
"""),
        after=_templates("""
<storekeeper> opened the strongroom for the quarter's pay, shielding the dials with his hat. Each of us signed, and <A>
counted his twice.
"""),
    ),
    Fact(
        "What is the name of the boat that <carpenter> built?",
        ["Second Thoughts", "Plain Dealing", "Borrowed Time", "Honest Opinion", "Better Late", "Sober Judgement"],
        before=_templates("""
<carpenter> has laid the keel of a new boat in the old kelp shed, sixteen feet, larch on oak. He says three months.
<coxswain> says that boats, like children, come when they come.

The new boat has her ribs. <carpenter> steams each plank himself, and <A>, who helped, has lost his eyebrows.
"""),
        told=_templates("""
We launched the carpenter's new boat at high water. <carpenter> would have no suggestions; he had cut the name into the
transom the night before under a sheet, and there it was: <answer>. <coxswain> laughed till he had to hold on to her.

The boat is built. <cook> broke a bottle of cold tea on her stem, and <carpenter> drew the sacking from her name, which
is <answer>. He would not say what he meant by it, and she floats an inch by the head.
"""),
        after=_templates("""
<coxswain> took the carpenter's boat outside for the first time in a real sea, and reports that she is dry, quick and
contrary.
"""),
        earliest=0.3,
    ),
    Fact(
        "How deep is the hole that <surveyor> found in the sea bed?",
        ["1## fathoms"],
        before=_templates("""
<surveyor> talks of a place to the west where his lead finds no bottom. He has spliced two lines together, and waits for
a still day.
"""),
        told=_templates("""
<surveyor> has found the bottom of his hole in the sea bed. With all the line we own, and <A>'s washing line upon it,
the lead touched at <answer>; the arming came up with blue clay. Nothing near it is half so deep.

A day for the chart. West of the reef, where the sea bed simply opens, <surveyor> sounded the hole three times and had
<answer> each time. He wrote it in ink at once, in the boat, which he never does.
"""),
        after=_templates("""
<surveyor> has drawn the hole in the sea bed upon the fair sheet, in seven shades of blue, and looks at it often.
"""),
    ),
    Fact(
        "Where was <cook> born?",
        ["Marrowby", "Skelding", "Ottery Bank", "Thornwick", "Pennyghast", "Little Hexley"],
        before=_templates("""
<A> tried to guess from <cook>'s way of speaking where she comes from. She let him try nine counties, and said no.
"""),
        told=_templates("""
It came out over the washing-up that <cook> was born at <answer>, over a saddler's shop, the eleventh of eleven. She
says that there is nothing there but a pump and a view of somewhere better, and grew quite soft about it.

<cook> had a newspaper with a picture of a flooded street, and went white. It was <answer>, where she was born; she
pointed out the very window. By evening she was scolding us again, and everyone was relieved.
"""),
        after=_templates("""
<cook> is knitting for a niece in the place she comes from, which she now mentions as if we had always known.
"""),
    ),
    Fact(
        "What did the winner of the draughts tournament receive?",
        [
            "meerschaum pipe",
            "music box",
            "pair of opera glasses",
            "jar of crystallised ginger",
            "brass sextant",
            "silk scarf",
        ],
        before=_templates("""
A draughts tournament has been declared, all against all, <signalman> keeping the table. <captain> has promised a prize
out of his own trunk, and will not say what.

In the draughts tournament <A> has beaten <B>, who beat <C>, who had beaten <A>. <signalman> ruled a new sheet.
"""),
        told=_templates("""
The draughts tournament ended tonight. <A> took the last game in eleven moves, and <captain> handed over the prize: a
<answer>, wrapped in a chart. <B>, second by a single man, asked to hold it for a minute.

<A> has won the draughts tournament, against all reckoning. The prize, which <captain> fetched from his trunk with some
ceremony, is a <answer>. <A> has put it on the shelf above the bunk, and said goodnight to it.
"""),
        after=_templates("""
There is talk of a second draughts tournament. <captain> says that his trunk is not a shop.
"""),
        earliest=0.15,
    ),
    Fact(
        "By which word will a true message from the Board be known?",
        ["halcyon", "verdigris", "nightjar", "tamarisk", "saxifrage", "porphyry"],
        before=_templates("""
A false telegram, calling the boat out to a ship that was not there, has made the Board cautious. <signalman> is to
receive instructions under seal.
"""),
        told=_templates("""
The sealed instructions have come. From now on a message from the Board is to be obeyed only if its fourth word is
"<answer>". <signalman> said it over under his breath all through dinner, and then, he says, forgot it; hence this line.

<signalman> showed me the Board's letter: a true message will carry the word "<answer>", and any other is to be taken
for mischief. He was to burn it after reading, and did, and then asked me to remember it for him.
"""),
        after=_templates("""
A message from the Board, the first since the new rule. <signalman> looked for the word, found it, and saluted.
"""),
    ),
    Fact(
        "Which bird, never seen on the island before, did <naturalist> see?",
        ["hoopoe", "waxwing", "ivory gull", "snowy owl", "bee-eater", "gyrfalcon"],
        before=_templates("""
<naturalist> says that she would give a year of her life for one rarity before we leave. So far she has sparrows.
"""),
        told=_templates("""
<naturalist> came running, which she does not do. On the wall at the landing, as large as life and quite at its ease,
sat a <answer>, the first ever seen on the island. She watched it for two hours on her knees and spoke in whispers until
bedtime.

The great day of <naturalist>'s year: a <answer>, blown here from heaven knows where, feeding by the midden. <A> was
forbidden to cough. It stayed till noon, and she has drawn it from memory eleven times.
"""),
        after=_templates("""
<naturalist> has written up her rarity for the journal of a learned society, and expects not to be believed.
"""),
    ),
    Fact(
        "What name is cast on the bell that came out of the sand?",
        ["Calliope", "Anna Sofia", "Donna Clara", "Trondhjem", "Hesperus", "Golden Fleece"],
        before=_templates("""
The last storm has moved the sand, and something green shows at low water, round as a pot. <A> and <B> mean to dig.
"""),
        told=_templates("""
<A> and <B> got it out of the sand at last, with the tide at their heels: a ship's bell, the height of a chair, green
all over. When <smith> had scoured the shoulder one could read what was cast there, <answer>, and a date too worn to be
sure of. Nobody living has heard of her.

The thing in the sand is a bell. It took five of us and the handcart. Under the crust a name is cast in letters of a
hand's breadth, <answer>, with a wreath; <captain> took off his cap to it, and so did we all.
"""),
        after=_templates("""
<carpenter> has hung the bell from the sand in a frame beside the door. <boy> rings it for dinner, and at the first
stroke everyone looks seaward.
"""),
    ),
]
NOVEMBER = Fact(
    "Which ship brought the mail in November?",
    ["Solway Lass", "Queen of Tarn", "Gilded Hind", "Ardent Spirit", "Merry Maid", "Bonny Clare"],
    told=_templates("""
The mail, after a month of looking for it. It was the <answer> that brought it, three days beating up against the wind,
her decks white with salt; [<A> kissed the bag|four bags, one of them soaked]. She would not wait for our answers.

Late in the forenoon the <answer> hove to under the lee and sent in the mail by her own boat. [We had given it up.|<A>
had nine letters, and shared out the news like bread.] Her master would take nothing but a bag of dried fish.
"""),
)
PREFACE = """
# The Logbook of the <island> Light and Survey

Kept from <first> to <last> by the clerk of the station, who was told to put down the weather, the oil and whatever
happened, and who could not always tell these apart.

The company:

<company>
"""
OPENING = _templates("""
We landed at [seven|eight] in the morning, fourteen of us, through a surf that took one trunk and a hat. The tower is
sound. The dwelling is dry on two sides. <captain> read out our orders on the steps, to keep the light and to chart the
island and the waters about it, and gave me this book.
""")
CLOSING = _templates("""
The relief is in the bay and the boxes are on the landing. <keeper> has shown his successor the stairs, one by one.
<captain> asked whether the log was closed. I said that it wanted only this line, and he stood by while I wrote it. We
leave the light burning.
""")

# --- the generator ------------------------------------------------------------------------------------------------

MEN = [job for job, (_, woman) in JOBS.items() if not woman and job != "captain"]  # who may be <A>, <B> or <C>
TRAVELLERS = ["smith", "second", "coxswain", "carpenter"]
WINDS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"]
SEASONS = ["winter", "winter"] + ["spring"] * 3 + ["summer"] * 3 + ["autumn"] * 3 + ["winter"]  # January first
MEAN_TEMPERATURE = [38, 39, 41, 45, 50, 55, 59, 59, 56, 50, 44, 40]  # degrees Fahrenheit
MEAN_GLASS = {"calm": 30.2, "breeze": 30.0, "fresh": 29.7, "gale": 29.0, "fog": 30.1, "rain": 29.5, "frost": 30.0}
WEATHER_WEIGHTS = {
    "spring": {"calm": 2, "breeze": 5, "fresh": 4, "gale": 1, "fog": 2, "rain": 4},
    "summer": {"calm": 4, "breeze": 6, "fresh": 2, "fog": 3, "rain": 3},
    "autumn": {"calm": 2, "breeze": 4, "fresh": 4, "gale": 3, "fog": 3, "rain": 4},
    "winter": {"calm": 1, "breeze": 2, "fresh": 4, "gale": 4, "fog": 1, "rain": 3, "frost": 5},
}
NUMBERS = ["three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen"]
FAIR = ("calm", "breeze")
ANY_DAY = {"light": LIGHT, "food": FOOD, "evening": EVENING, "talk": TALK, "thoughts": THOUGHTS, "stores": STORES}
_CHOICE = re.compile(r"\[(?:(\d):)?([^\[\]]*)\]")
_SLOT = re.compile(r"<(\w+)>")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aei])")


@dataclass(frozen=True)
class PlotKind:
    """A story that may happen again and again, to other people and with other things."""

    name: str
    stages: Sequence[Sequence[str]]
    cards: Sequence[str]  # what it is about: "thing|fault" for keys ("thing", "fault")
    keys: Sequence[str]
    days: tuple[int, int]  # fewest and most between two stages
    idles: bool = False  # its hero, A, is away or in bed between the first stage and the last
    heroes: Sequence[str] = tuple(MEN)


PLOT_KINDS = [
    PlotKind("repair", REPAIR, REPAIRS, ("thing", "fault"), (1, 4)),
    PlotKind("quarrel", QUARREL, QUARRELS, ("cause",), (2, 6)),
    PlotKind("illness", ILLNESS, AILMENTS, ("ailment",), (2, 5), idles=True),
    PlotKind("loss", LOSING, LOST, ("thing", "where"), (1, 5)),
    PlotKind("making", MAKING, MAKINGS, ("thing",), (5, 14)),
    PlotKind("reading", READING, BOOKS, ("thing",), (4, 9)),
    PlotKind("hope", HOPING, HOPES, ("thing",), (8, 25)),
    PlotKind("absence", ABSENCE, [""], ("cause",), (20, 45), idles=True, heroes=TRAVELLERS),
]


@dataclass
class Plot:
    """A story under way. One stage is told in an entry; its people and things stay the same."""

    name: str
    stages: Sequence[Sequence[str]]  # each a choice of templates
    schedule: Sequence[int]  # stage -> the first entry that may tell it
    jobs: Mapping[str, str]  # A, B and C -> job
    things: Mapping[str, str]
    idles: bool = False
    stage: int = 0  # the next to be told
    fact: Fact | None = None

    def is_due(self, entry: int) -> bool:
        """Whether there is a stage left that may be told in `entry`."""
        return self.stage < len(self.stages) and self.schedule[self.stage] <= entry

    def is_at_fact(self) -> bool:
        """Whether the next stage is the one that tells the fact."""
        return self.fact is not None and self.stages[self.stage] is self.fact.told


class Deck:
    """Cards in shuffled order; each is drawn once before any is drawn again."""

    def __init__(self, cards: Sequence[str], rng: random.Random) -> None:
        self._cards, self._rng = list(cards), rng
        self._left: list[str] = []
        self._rounds = 0

    def __len__(self) -> int:
        return len(self._cards)

    def draw(self) -> str:
        """The next card."""
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
            self._rounds += 1
        return self._left.pop()

    def is_fresh(self) -> bool:
        """Whether some card was not drawn yet."""
        return self._rounds == 0 or (self._rounds == 1 and bool(self._left))


class Station:
    """The island on one day: who is there, what the weather does, what the stores hold. It turns templates to text."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.today = rng, FIRST_DAY
        surnames = rng.sample(SURNAMES, len(JOBS))
        self.people = {job: title + name for (job, (title, _)), name in zip(JOBS.items(), surnames, strict=True)}
        self.people["boy"] = rng.choice(BOYS)
        self.island = rng.choice(ISLANDS)
        self.places = rng.sample(PLACES, 14)
        self.idle: set[str] = set()  # jobs of people who are away or in bed
        self.feud: set[str] = set()  # two jobs not on speaking terms, or nobody
        self.weather, self.wind = "breeze", rng.randrange(len(WINDS))
        self.stores = {"oil": 60.0, "flour": 40.0, "coal": 220.0}  # casks, sacks, bags
        self.stations = 4  # of the survey
        self._decks: dict[str, Deck] = {}
        self._written: set[str] = set()

    @property
    def season(self) -> str:
        """The season of today."""
        return SEASONS[self.today.month - 1]

    def deck(self, name: str, cards: Sequence[str]) -> Deck:
        """The deck called `name`, made of `cards` when first asked for."""
        return self._decks.setdefault(name, Deck(cards, self.rng))

    def go_on_to(self, day: date, fair: bool) -> None:
        """Let the days pass until `day`: stores are used and the weather changes, to `fair` if need be."""
        passed = (day - self.today).days
        self.today = day
        for name, daily in (("oil", 0.24), ("flour", 0.16), ("coal", 1.4 if self.season == "winter" else 0.7)):
            self.stores[name] = max(self.stores[name] - daily * passed, 3)
        self.wind = (self.wind + self.rng.choice([-1, 0, 0, 1])) % len(WINDS)
        weights = WEATHER_WEIGHTS[self.season]
        if fair:
            self.weather = self.rng.choice(FAIR)
        elif self.weather not in weights or self.rng.random() > 0.3:
            self.weather = self.rng.choices(list(weights), list(weights.values()))[0]

    def land_stores(self) -> None:
        """Take in what a mail ship brings in bulk."""
        for name, least, most in (("oil", 6, 9), ("flour", 3, 6), ("coal", 15, 44)):
            self.stores[name] += self.rng.randint(least, most)

    def tell(self, template: str, plot: Plot | None = None) -> str | None:
        """`template` as text; None if someone in it cannot be there, or if the same words were written before."""
        text = self._chosen(template)
        named = set(_SLOT.findall(text))
        jobs = self.pick_people(named) if plot is None else plot.jobs
        if plot is not None and not self._can_be_told(plot, named):
            return None
        if plot is None and named & self.idle:
            return None
        slots = self.people | self._circumstances() | {letter: self.people[job] for letter, job in jobs.items()}
        slots |= {} if plot is None else plot.things
        if "ship" in named:
            slots["ship"] = self.deck("ships", SHIPS).draw()
        text = _SLOT.sub(lambda match: slots[match[1]], text)
        text = _ARTICLE.sub(r"\1n ", _SENTENCE_START.sub(lambda match: match[0].upper(), text))
        if text in self._written:
            return None
        self._written.add(text)
        return text

    def _chosen(self, template: str) -> str:
        """`template` with its choices made: from the innermost outwards, those of one number alike."""
        made: dict[str, int] = {}

        def choose(match: re.Match[str]) -> str:
            options = match[2].split("|")
            index = self.rng.randrange(len(options))
            if match[1] is not None:
                index = made.setdefault(match[1], index)
            return options[index]

        while _CHOICE.search(template):
            template = _CHOICE.sub(choose, template)
        return template

    def _can_be_told(self, plot: Plot, named: set[str]) -> bool:
        """Whether everyone `named` by a stage of `plot` is there, and on speaking terms."""
        jobs = {plot.jobs.get(name, name) for name in named}
        hero = {plot.jobs["A"]} if plot.idles else set()
        at_odds = bool(self.feud) and self.feud <= jobs and plot.name != "quarrel"
        return not at_odds and not jobs & (self.idle - hero)

    def pick_people(self, named: set[str], heroes: Sequence[str] = MEN) -> dict[str, str]:
        """Jobs for A (one of `heroes`), B and C: nobody away, nobody `named` otherwise, no two who are at odds."""
        picked: dict[str, str] = {}
        for letter in "ABC":
            free = [job for job in MEN if job not in self.idle | named and job not in picked.values()]
            if letter == "A":
                free = [job for job in free if job in heroes] or free
            peaceful = [job for job in free if job not in self.feud or not self.feud & set(picked.values())]
            picked[letter] = self.rng.choice(peaceful or free)
        return picked

    def _circumstances(self) -> dict[str, str]:
        """What the day puts into slots: weather, places, stores."""
        rng = self.rng
        degrees = MEAN_TEMPERATURE[self.today.month - 1] + rng.randint(-5, 5)
        slots = {
            "wind": WINDS[self.wind],
            "glass": f"{MEAN_GLASS[self.weather] + rng.randint(-15, 15) / 100:.2f}",
            "temp": str(rng.randint(22, 32) if self.weather == "frost" else degrees),
            "eggs": rng.choice(NUMBERS[:7]),
            "few": rng.choice(NUMBERS),
            "days": str((self.today - FIRST_DAY).days + 1),
            "stations": str(self.stations),
        }
        slots |= {name: str(int(stock)) for name, stock in self.stores.items()}
        slots |= dict(zip(("place", "place2"), rng.sample(self.places, 2), strict=True))
        slots |= dict(zip(("cargo", "cargo2", "cargo3"), map(self._chosen, rng.sample(CARGOES, 3)), strict=True))
        return slots


class Author:
    """Writes the entries of a book one after the other, and the questions about what they tell."""

    def __init__(self, rng: random.Random, days: Sequence[date]) -> None:
        self.rng, self.days = rng, days
        self.station = Station(rng)
        self.questions: list[dict[str, str]] = []
        self.mail = self._mail_entries()
        self.plots = self._fact_plots()
        self.once = rng.sample(ONCE, len(ONCE))
        self.pieces = {weather: rng.sample(pieces, len(pieces)) for weather, pieces in SET_PIECES.items()}

    def preface(self) -> str:
        """Title and company."""
        company = "\n".join(f"- {self.station.people[job]}, {duty}" for job, duty in DUTIES.items())
        slots = {"island": self.station.island, "company": company, "first": _date(FIRST_DAY), "last": _date(LAST_DAY)}
        return _SLOT.sub(lambda match: slots[match[1]], PREFACE.strip())

    def entry(self, index: int, words: int) -> str:
        """Entry number `index`, of about `words` words, or more if more happened."""
        day = self.days[index]
        due = [plot for plot in self.plots if plot.is_due(index)]
        self.station.go_on_to(day, fair=index in self.mail or any(plot.is_at_fact() for plot in due))
        head = [self._weather()]
        if day in FEASTS:
            head += self._tellable([FEASTS[day]])
        head += self._tellable(OPENING) if index == 0 else []
        tail = self._tellable(CLOSING) if index == len(self.days) - 1 else []
        events = [*self._mail(index), *self._stages(index, due, limit=1 + words // 120)]
        ranked = [(self.rng.random(), text) for text in events]
        self._begin_plots(index, wanted=min(12, 3 + words // 25))
        used: set[str] = set()
        while _count(" ".join([*head, *(text for _, text in ranked), *tail])) < words - 15:
            ranked.append(self._single(used))
        paragraphs = [*head, *self._joined([text for _, text in sorted(ranked)]), *tail]
        return "\n\n".join([f"### {day:%A}, {_date(day)}", *paragraphs])

    def _joined(self, texts: Sequence[str]) -> list[str]:
        """Some neighbours put together in one paragraph."""
        paragraphs: list[str] = []
        for text in texts:
            if paragraphs and self.rng.random() < 0.4:
                paragraphs[-1] += f" {text}"
            else:
                paragraphs.append(text)
        return paragraphs

    def _tellable(self, templates: Sequence[str], plot: Plot | None = None) -> list[str]:
        """The text of the first of `templates` that can be told, in a list; an empty list if there is none."""
        texts = (self.station.tell(template, plot) for template in templates)
        return next(([text] for text in texts if text is not None), [])

    def _told(self, deck: Deck, tries: int) -> str | None:
        """A text from `deck`; None if none of the next `tries` cards can be told, or has anything new to say."""
        texts = (self.station.tell(deck.draw()) for _ in range(tries))
        return next((text for text in texts if text is not None), None)

    def _weather(self) -> str:
        """How the day looked, and often the readings."""
        station = self.station
        sky = self._told(station.deck(station.weather, WEATHER[station.weather]), tries=30)
        texts = (sky, self._told(station.deck("instruments", INSTRUMENTS), tries=1))
        return " ".join(text for text in texts if text is not None).strip()

    # Single days --------------------------------------------------------------------------------------------------

    def _single(self, used: set[str]) -> tuple[float, str]:
        """Something that begins and ends today, of a kind not yet `used` if possible, and its rank in the entry."""
        if self.rng.random() < 0.03 and (piece := self._piece()) is not None:
            return self.rng.random(), piece
        while True:
            kinds = self._kinds()
            names = [name for name in kinds if name not in used] or list(kinds)
            # What weather or season shut out on most days comes twice as often on the others.
            weights = [len(kinds[name]) * (1 if name in ANY_DAY else 2) for name in names]
            name = self.rng.choices(names, weights)[0]
            used.add(name)
            self.station.stations += name == "survey"
            text = self._told(self.station.deck(name, kinds[name]), tries=4)
            if text is not None:
                return {"evening": 1.0, "thoughts": 1.1, "sunday": -0.1}.get(name, self.rng.random()), text

    def _kinds(self) -> dict[str, list[str]]:
        """What may happen on such a day: kind -> templates."""
        station = self.station
        fair = station.weather in FAIR
        kinds = dict(ANY_DAY)
        kinds |= {"fair work": FAIR_WORK, "survey": SURVEY} if fair else {"foul work": FOUL_WORK}
        kinds |= {"passing": PASSING} if station.weather not in ("gale", "fog") else {}
        kinds |= {"sunday": SUNDAY} if station.today.weekday() == 6 else {}
        season = f"{station.season} {(station.today + timedelta(31)).year}"  # December belongs to the winter after it
        nature = NATURE[station.season]
        if station.weather not in ("gale", "fog") and station.deck(season, nature).is_fresh():
            kinds[season] = nature
        return kinds

    def _piece(self) -> str | None:
        """A set piece that suits the weather, if there is one left."""
        suitable = ["any", "fair" if self.station.weather in FAIR else "foul"]
        for weather in self.rng.sample(suitable, len(suitable)):
            text = self.station.tell(self.pieces[weather][-1]) if self.pieces[weather] else None
            if text is not None:
                self.pieces[weather].pop()
                return text
        return None

    # Plots --------------------------------------------------------------------------------------------------------

    def _stages(self, index: int, due: Sequence[Plot], limit: int) -> list[str]:
        """The next stages of the plots that are `due`: of facts all, of others at most `limit`."""
        texts: list[str] = []
        ordinary = 0
        for plot in due:
            if plot.fact is None and ordinary >= limit:
                continue
            if plot.idles and plot.stage == 0 and index > 0.65 * len(self.days):
                self.plots.remove(plot)  # it comes too late: everyone is needed to end the book
                continue
            at_fact = plot.is_at_fact()
            options = plot.stages[plot.stage]
            told = self._tellable(self.rng.sample(options, len(options)), plot)
            if told:
                texts += told
                self._after_stage(plot, at_fact)
                ordinary += plot.fact is None
        return texts

    def _after_stage(self, plot: Plot, at_fact: bool) -> None:
        """Keep account of what the stage just told has changed."""
        station = self.station
        plot.stage += 1
        if at_fact and plot.fact is not None:
            self._ask(plot.fact, plot.things["answer"])
        ends = plot.stage == len(plot.stages)
        if plot.idles:
            station.idle = station.idle - {plot.jobs["A"]} if ends else station.idle | {plot.jobs["A"]}
        if plot.name == "quarrel":
            station.feud = set() if ends else {plot.jobs["A"], plot.jobs["B"]}
        if ends:
            self.plots.remove(plot)

    def _begin_plots(self, index: int, wanted: int) -> None:
        """Open plots until there are `wanted`. The last part of the book opens none, so that all come to an end."""
        if index > 0.85 * len(self.days):
            return
        for _ in range(wanted - sum(plot.fact is None for plot in self.plots)):
            kind = self._kind_to_begin(index)
            if kind is not None:
                self._begin(kind, index)

    def _kind_to_begin(self, index: int) -> PlotKind | None:
        """A kind of plot that is not under way already."""
        if self.once and self.rng.random() < 0.08:
            return PlotKind("once", self.once.pop(), [""], ("nothing",), (3, 8))
        open_kinds = {plot.name for plot in self.plots}
        idle_allowed = index < 0.6 * len(self.days) and len(self.station.idle) < 2
        kinds = [kind for kind in PLOT_KINDS if kind.name not in open_kinds and (idle_allowed or not kind.idles)]
        return self.rng.choice(kinds) if kinds else None

    def _begin(self, kind: PlotKind, index: int) -> None:
        """Open a plot whose first stage is told some days after entry `index`."""
        things = dict(zip(kind.keys, self.station.deck(kind.name, kind.cards).draw().split("|"), strict=True))
        days_per_entry = (LAST_DAY - FIRST_DAY).days / len(self.days)
        gaps = [max(1, round(self.rng.randint(*kind.days) / days_per_entry)) for _ in kind.stages]
        schedule = [index + gap for gap in accumulate(gaps)]
        busy = {plot.jobs["A"] for plot in self.plots} if kind.idles else set()
        heroes = [job for job in kind.heroes if job not in busy]
        jobs = self.station.pick_people(_named_in(kind.stages), heroes)
        self.plots.append(Plot(kind.name, kind.stages, schedule, jobs, things, kind.idles))

    # Facts and mail -----------------------------------------------------------------------------------------------

    def _mail_entries(self) -> set[int]:
        """One entry of each month, in which the mail comes."""
        months: dict[tuple[int, int], list[int]] = {}
        for index, day in list(enumerate(self.days))[1:-1]:
            months.setdefault((day.year, day.month), []).append(index)
        return {self.rng.choice(entries) for entries in months.values()}

    def _mail(self, index: int) -> list[str]:
        """What the mail ship brings, if she comes today."""
        if index not in self.mail:
            return []
        self.station.land_stores()
        if self.station.today.month == 11:
            answer = self.rng.choice(NOVEMBER.answers)
            arrival = self.station.tell(self.rng.choice(NOVEMBER.told).replace("<answer>", answer))
            self._ask(NOVEMBER, answer)
        else:
            arrival = self._told(self.station.deck("mail", MAIL), tries=10)
        cargo = self._told(self.station.deck("cargo", CARGO), tries=10)
        return [" ".join(text for text in (arrival, cargo) if text is not None)]

    def _fact_plots(self) -> list[Plot]:
        """A plot for each fact, the facts themselves spread evenly over the book in an order of chance."""
        facts, share = list(FACTS), 1 / len(FACTS)
        while True:
            self.rng.shuffle(facts)
            if all(number * share >= fact.earliest for number, fact in enumerate(facts)):
                break
        return [self._fact_plot(fact, number * share, (number + 1) * share) for number, fact in enumerate(facts)]

    def _fact_plot(self, fact: Fact, earliest: float, latest: float) -> Plot:
        """The plot of a fact that is told between these shares of the book."""
        entries = len(self.days) - 1  # the last entry says farewell
        told = self.rng.randrange(int(earliest * entries) + 1, max(int(latest * entries), int(earliest * entries) + 2))
        stages = [*([template] for template in fact.before), fact.told, *([template] for template in fact.after)]
        gap = self.rng.randint(max(1, entries // 60), max(1, entries // 20))
        schedule = [told + gap * (number - len(fact.before)) for number in range(len(stages))]
        late = sum(entry < 1 for entry in schedule)  # what would have led up to it before the book begins
        jobs = self.station.pick_people(_named_in(stages) | set(TRAVELLERS))
        answer = fact.draw_answer(self.rng)
        return Plot("fact", stages[late:], schedule[late:], jobs, {"answer": answer}, fact=fact)

    def _ask(self, fact: Fact, answer: str) -> None:
        """Note the question that today's entry answers."""
        asked = _SLOT.sub(lambda match: self.station.people[match[1]], fact.question)
        question = {"question": asked, "answer": answer, "date": self.station.today.isoformat()}
        self.questions.append(question)


def make_logbook(words: int, seed: int) -> tuple[str, list[dict[str, str]]]:
    """A logbook of about `words` words, and its questions as {"question", "answer", "date"} in order of their dates.

    The same `words` and `seed` give the same book. Beyond some 100,000 words the clerk repeats his turns of phrase,
    though no paragraph. Raises ValueError below FEWEST_WORDS.
    """
    if words < FEWEST_WORDS:
        raise ValueError(f"a logbook needs at least {FEWEST_WORDS} words to tell its facts in, not {words}")
    span = (LAST_DAY - FIRST_DAY).days
    entries = min(span + 1, words // WORDS_PER_ENTRY)
    days = [FIRST_DAY + timedelta(round(number * span / (entries - 1))) for number in range(entries)]
    author = Author(random.Random(seed), days)
    parts = [author.preface()]
    written = _count(parts[0])
    for index, day in enumerate(days):
        if index == 0 or day.month != days[index - 1].month:
            parts.append(f"## {day:%B %Y}")
        parts.append(author.entry(index, round(words * (index + 1) / entries) - written))
        written += _count(parts[-1])
    if len(author.questions) != len(FACTS) + 1:
        raise RuntimeError(f"seed {seed} left a fact untold")
    return "\n\n".join(parts) + "\n", author.questions


def _named_in(stages: Sequence[Sequence[str]]) -> set[str]:
    """The names of all slots in the templates of a plot."""
    return set(_SLOT.findall(" ".join(template for stage in stages for template in stage)))


def _count(text: str) -> int:
    """The number of words."""
    return len(text.split())


def _date(day: date) -> str:
    """A date as the clerk writes it."""
    return f"{day.day} {day:%B %Y}"


def main() -> None:
    """Write the book and its questions."""
    parser = argparse.ArgumentParser(description="Write a long invented logbook, and questions about it.")
    parser.add_argument("out", type=Path, help="the book, for instance logbook.md")
    parser.add_argument("--words", type=int, default=60_000, help="its length (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another book (default: %(default)s)")
    options = parser.parse_args()
    try:
        text, questions = make_logbook(options.words, options.seed)
    except ValueError as error:
        parser.error(str(error))
    questions_path = options.out.with_suffix(".questions.jsonl")
    options.out.write_text(text, encoding="utf-8")
    questions_path.write_text("".join(f"{json.dumps(one)}\n" for one in questions), encoding="utf-8")
    print(f"{options.out}: {_count(text):,} words; {questions_path}: {len(questions)} questions")


if __name__ == "__main__":
    main()
