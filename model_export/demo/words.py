"""Words that name nothing the detector knows: asked for in training and evaluation, and no box may answer."""

from __future__ import annotations


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAINED_WORDS: tuple[str, ...] = _listed(
    """
    abacus accordion acorn air alley amulet angel ankle antenna anvil apron arch arm armor armchair arrow
    artichoke asparagus astronaut atlas attic axe baby badge balcony bamboo bandage banjo bank banner barn
    barrel bat bathtub battery beach bead beaver bed bedroom beetle belt bench bin bird blanket blender boot
    bottle bow bowl bowtie box boy bracelet brain branch brick bridge broom brush bucket bull bumper button
    cabbage cabinet cable cage calculator calendar candlestick canoe canvas cap cape cardboard cardigan
    carpet cart castle cauliflower ceiling celery cello cemetery chain chair chalk charger cheek cheetah
    chess chimney chin church cigarette circle city cliff cloud coat cobra coin collar comb comet compass
    concrete cone container cork corridor cottage cotton couch cradle crane crayon cricket crocodile crowd
    crutch cube cupboard curtain cushion dagger dam dart daisy deer desert desk diamond diaper dinosaur
    dishwasher doctor doll donkey door dove dragon dragonfly drawer drill driver dumbbell dust eagle ear
    earring earth easel eel elbow elevator emerald engine envelope eraser escalator eye eyebrow face factory
    fan farm farmer faucet feather fence fern finger fire fireplace flag flame flamingo flashlight flea
    floor flour flute fly fog foot forest fork fountain frame freezer fridge furniture gallery garage garden
    gate gazelle ghost giraffe girl globe glove glue goat gold goose gorilla grass gravel grill ground hair
    hairbrush hall ham hamster hand handle hanger harbor harp harmonica headphone heart hedgehog heel helmet
    herb hill hippo hockey hole hook horn hose hospital hourglass human ice iguana ink insect iron island
    ivy jacket jaguar jar jeep jelly jellyfish jewel jug juice jungle kangaroo kayak kettle keyboard kitchen
    kite knee knife knot ladle lake lampshade lantern laundry lawn leather leg lettuce library light
    lighthouse lightning lilac lily line lizard llama lobster locker log luggage machine magnet mail man map
    marble mask mat match meadow meat medal medicine metal microphone microscope microwave mirror mitten
    moon moose mosque mosquito moth motorcycle mountain moustache mouth mud mug muffin museum music nail
    napkin neck necklace needle nest net newspaper noodle nose nurse nut oar oasis oat ocean oil olive onion
    ostrich otter oven oyster paddle page pail paint paintbrush painting pajamas paper paperclip parachute
    parrot parsley pasta path patio peacock pebble pedal pelican pen people perfume person piano picnic
    picture pie pigeon pillow pilot pine pipe pirate pistol pit plant plastic plate platform playground
    pliers plug plum pocket pole police pond pool porch porcupine poster pot pouch powder printer prism
    prison projector pudding puddle pump pumpkin puppet puzzle pyramid quail quilt rack racket radio radish
    rag railing rain rainbow rake ram raspberry rat razor refrigerator ribbon rice rifle river road robe
    robot rock roof room rooster root rope rug ruler saddle sail salad salmon salt sand sandal sandwich
    satellite sauce saucer sausage saw saxophone scale scarecrow scarf school scooter screen screw
    screwdriver sculpture sea seal seat seaweed seed shadow shampoo shark shelf shell shield ship shop
    shorts shoulder shovel shower shrimp sidewalk sign silk silver sink skate skateboard skeleton ski skirt
    skull sky sled sleeve slipper smoke snow soap sock sofa soil soldier soup spatula spinach sponge spoon
    spring squid squirrel stadium stage stair stamp stapler star statue steak steel stick stocking stone
    stool store stove straw stream street string student submarine sugar suit suitcase sun surfboard swan
    sweater swimmer swing sword table tablecloth tail tank tape target teacher teapot telescope temple
    tennis tent thermometer thread throne thumb ticket tie tile tire toast toaster toilet tongue tooth
    toothbrush toothpaste torch towel tower tram trash tray triangle tripod trousers trunk tub tube tuna
    tunnel turkey turnip tyre uniform van vase vegetable-peeler veil vest video village vine vinegar volcano
    vulture waffle wagon waist wall wallet walnut walrus wardrobe washer wasp water waterfall wave wax
    weasel web weed wheat wheel wheelchair whip whisk whistle wig window wing wire wolf woman wood wool worm
    wreath wrench wrist yacht yard yarn yogurt zebra zipper zucchini
    """
)
"""Everyday nouns asked for in training as things that are not there."""

UNSEEN_WORDS: tuple[str, ...] = _listed(
    """
    alligator anchor ant aquarium asphalt badger bagel balloonist banknote barometer bathrobe beard bison
    blackboard bonfire bookshelf bread-knife bulldozer buffalo bungalow cathedral caterpillar cauldron
    chandelier chipmunk cinema clarinet cobweb coral crow crowbar cymbal dandelion daffodil dentist
    dishcloth doorbell eggshell falcon ferry fingernail fossil fridge-magnet gazebo geranium glacier gymnast
    hammock hatchet hyena igloo jigsaw ketchup lemur magazine mammoth mandolin meteor mustard nightgown
    octagon orchid oxygen paperweight parliament pelvis pinecone platypus raccoon raft sandpaper scorpion
    sewing-machine slingshot snorkel spaghetti stethoscope tambourine tapestry trampoline trombone truffle
    tugboat typewriter ukulele vacuum violet warehouse windmill xylophone yoghurt-spoon
    """
)
"""Everyday nouns that training never sees; evaluation asks for them."""
